"""Answers as JSON: what is written is read again, and only that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.shown_answers import ALL, EXPLANATION, IN_FORCE, PROBED, STATUS
from vswitch.answer_data import AnswerData, as_json
from vswitch.diagnose.explained import Explanation
from vswitch.errors import LabError
from vswitch.lab_answers import ControllerStatus, GuestShown, LabStatus

kinds = pytest.mark.parametrize("answer", ALL, ids=lambda answer: type(answer).__name__)


@kinds
def test_what_is_written_is_read_again(answer: AnswerData) -> None:
    data = json.loads(json.dumps(answer.to_dict()))
    assert type(answer).from_dict(data) == answer
    assert type(answer).from_dict(data).to_dict() == data


@kinds
def test_what_users_get_says_of_which_schema_it_is(answer: AnswerData) -> None:
    inner = isinstance(answer, GuestShown | ControllerStatus)  # part of `ps`, and not for users
    assert next(iter(answer.to_dict().items())) == ("schema", 1) or inner
    if not inner:
        with pytest.raises(LabError, match="schema 2, not 1"):
            type(answer).from_dict(answer.to_dict() | {"schema": 2})


def test_the_keys_are_those_that_the_documentation_names() -> None:
    """What programs read today; new keys may come, these may not go."""
    data = EXPLANATION.to_dict()
    assert [*data] == ["schema", "from", "to", "traffic", "verdict", "agrees", "answers"]
    answer = data["answers"][0]
    assert [*answer] == [
        "ports", "verdict", "expected", "layer", "cause", "fix", "source_address", "destination_address",
        "decided_by", "rules", "assumptions", "mirrored", "legs", "open_vswitch", "agrees",
    ]  # fmt: skip
    assert [*answer["legs"][0]["hops"][0]] == ["kind", "frame", "from", "to", "arrived", "passages"]
    report = PROBED.to_dict()["reports"][0]
    assert [*report] == [
        "ports", "outcome", "expected", "agrees", "detail", "layer", "cause", "fix", "decided_by", "counters",
        "other_drops", "evidence",
    ]  # fmt: skip
    assert [*report["counters"][0]] == [
        "switch", "cookie", "flow", "rule", "reason", "adapter", "before", "after", "moved"
    ]  # fmt: skip
    assert "in_force" in IN_FORCE.to_dict()
    assert "in_force" not in STATUS.to_dict()["in_force"], "no policies were asked about"


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "Perhaps"},
        {"answers": None},
        {"answers": "Allow"},
        {"traffic": 7},
        {"agrees": "yes"},
        {"schema": None},
    ],
    ids=str,
)
def test_what_is_not_an_answer_is_an_error_that_names_it(change: dict[str, Any]) -> None:
    with pytest.raises(LabError, match=r"an answer cannot be understood \(Explanation\)") as caught:
        Explanation.from_dict(EXPLANATION.to_dict() | change)
    assert "another version" in caught.value.hint


@pytest.mark.parametrize("missing", ["site", "in_force", "schema"])
def test_a_key_that_is_missing_is_an_error(missing: str) -> None:
    data = STATUS.to_dict()
    del data[missing]
    with pytest.raises(LabError, match=missing):
        LabStatus.from_dict(data)


def test_a_key_that_is_new_is_passed_over() -> None:
    assert LabStatus.from_dict(STATUS.to_dict() | {"new": 1}) == STATUS


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError, match="object is not JSON"):
        as_json(object())  # type: ignore[arg-type]
