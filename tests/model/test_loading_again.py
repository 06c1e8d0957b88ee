"""Loading after an edit gives what loading from nothing gives, in pieces or as a whole."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from tests.support.model_files import LAYOUT, POLICY, reader
from vswitch.errors import InputErrors
from vswitch.model import load_site
from vswitch.model.files.policy_text import split_policy
from vswitch.model.resolving import policy_expansion as policy
from vswitch.model.resolving.memo import Memo


def outcome(load: Callable[[], object]) -> object:
    """The site, or the mistakes as data."""
    try:
        return load()
    except InputErrors as errors:
        return [error.as_dict() for error in errors.errors]


MEMO = Memo()  # of all loads of this module, one after the other


def check(layout: str, text: str) -> None:
    read = reader(layout=layout, policy=text)
    again = outcome(lambda: load_site("l.yaml", ["p.yaml"], read=read, memo=MEMO))
    cold = outcome(lambda: load_site("l.yaml", ["p.yaml"], read=read))
    assert again == cold
    with mock.patch.object(policy, "split_policy", return_value=None):
        whole = outcome(lambda: load_site("l.yaml", ["p.yaml"], read=read))
    assert again == whole


RULES = st.builds(
    "{{name: {}, adapters: {}, direction: {}, action: {}, {}}}".format,
    st.sampled_from(["a", "b", "c", "d", "e", "f", '"g: #"', "'h'"]),
    st.sampled_from(["web*", "web01", "sql01", "[web, sql*]", '"*"', '"host:*"', "nobody", "web"]),
    st.sampled_from(["Inbound", "Outbound", "Both", "In"]),
    st.sampled_from(["Allow", "Deny"]),
    st.sampled_from(
        [
            "weight: 5",
            "weight: 7, protocol: TCP, local_port: [80, 443]",
            "protocol: TCP, stateful: true",
            "remote_ip_address: [10.0.0.0/8, admin]",
            "protocol: UDP,\n     local_port: dns",
            "protocol: UDP, # why\n\n     local_port: dns",
            "remote_ip_address: 10.0.0.0/8",
            "weigth: 5",
            "weight: [",
            "remote_ip_address: 'x",
        ]
    ),
)
BLOCK_RULES = st.sampled_from(
    [
        "name: long\n    adapters: web\n    direction: Inbound\n    action: Allow\n",
        "\n    adapters: web\n    direction: Inbound\n    action: Deny\n"
        "    remote_ip_address:\n      - 10.0.0.0/8\n",
        "# first\n    adapters: web\n    direction: Inbound\n    action: Deny\n",
        "name: |\n      text\n    adapters: web\n    direction: Inbound\n    action: Deny\n",
        "name: >-\n      folded\n      text\n    adapters: web\n    direction: Outbound\n    action: Deny\n",
        "&x {adapters: web, direction: Inbound, action: Allow, weight: 9}\n  - *x\n",
        '{name: "two\n  - lines", adapters: web, direction: Inbound, action: Allow}\n',
        "{name: x, name: y, adapters: web, direction: Inbound, action: Allow}\n",
        "\n",
        "{}\n",
        "[]\n",
    ]
)
LINES = st.one_of(
    RULES.map("  - {}\n".format),
    BLOCK_RULES.map("  - {}".format),
    st.sampled_from(
        [
            "# a comment\n",
            "  # another\n",
            "\n",
            "      \n",
            " - x\n",
            "---\n",
            "...\n",
            "acls:\n",
            "acls: []\n",
            "extended_acls: # more\n",
            "groups: {web: [web*], admin: 10.0.20.0/24}\n",
            "groups:\n  web: web01\n  admin:\n    - '2001:db8::/32'\n",
            "x: y\n",
            "\t\n",
        ]
    ),
)
EDITS = st.lists(
    st.tuples(st.sampled_from(["replace", "insert", "delete"]), st.integers(0, 30), LINES), max_size=6
)


@given(st.lists(RULES.map("  - {}\n".format), max_size=8), EDITS)
def test_loading_after_edits(rules: list[str], edits: list[tuple[str, int, str]]) -> None:
    lines = ["groups: {web: [web*], admin: 10.0.20.0/24}\n", "extended_acls:\n", *rules]
    check(LAYOUT, "".join(lines))
    for kind, number, line in edits:
        place = number % (len(lines) + 1)
        if kind == "insert":
            lines.insert(place, line)
        else:
            lines[place : place + 1] = [line] if kind == "replace" else []
        check(LAYOUT, "".join(lines))


@given(st.integers(0, len(POLICY) - 1), st.sampled_from([*"-:#[]{}'\"&*|> \n\t0a", ""]))
def test_loading_after_a_typing_mistake(place: int, character: str) -> None:
    check(LAYOUT, POLICY)
    check(LAYOUT, POLICY[:place] + character + POLICY[place + 1 :])


def test_an_edit_keeps_the_other_entries() -> None:
    rules = [
        f"  - {{name: r{i}, adapters: web01, direction: Inbound, action: Allow,"
        f" protocol: TCP, local_port: {i}}}\n"
        for i in range(1, 100)
    ]

    memo = Memo()

    def entries() -> list[object]:
        read = reader(policy="extended_acls:\n" + "".join(rules))
        found = load_site("l.yaml", ["p.yaml"], read=read, memo=memo)
        return list(found.guest["web01"].adapters[0].extended_acls)

    before = entries()
    rules[40] = rules[40].replace("TCP", "UDP")
    after = entries()
    assert [place for place in range(99) if before[place] is not after[place]] == [40]


def test_lines_above_move_origins() -> None:
    memo = Memo()

    def lines(text: str) -> list[int]:
        loaded = load_site("l.yaml", ["p.yaml"], read=reader(policy=text), memo=memo)
        return sorted({entry.origin.line for each in loaded.adapters for entry in each.extended_acls})

    assert lines(POLICY) == [3, 5, 10]
    assert lines("# one\n# two\n" + POLICY) == [5, 7, 12]
    assert lines(POLICY) == [3, 5, 10]


def test_another_layout_or_group_changes_what_rules_mean() -> None:
    check(LAYOUT, POLICY)
    check(LAYOUT.replace("web02", "app02"), POLICY)
    check(LAYOUT.replace("web02", "app02"), POLICY.replace("web: [web*]", "web: [app*]"))
    check(LAYOUT, POLICY)


def test_automatic_weights_move_when_a_written_one_comes_between() -> None:
    rules = (
        "  - {name: a, adapters: web01, direction: Inbound, action: Allow,"
        " protocol: TCP, local_port: [1, 2, 3, 4]}\n"
    )
    for weight in (1, 59999, 59998, 60000, 59999):
        fixed = f"  - {{name: b, adapters: web01, direction: Inbound, action: Allow, weight: {weight}}}\n"
        check(LAYOUT, f"extended_acls:\n{rules}{fixed}")


def test_usual_policies_are_cut_into_pieces() -> None:
    for text in (
        POLICY,
        "---\n" + POLICY,
        POLICY.rstrip("\n"),
        "# top\n\n" + POLICY.replace("\n  - ", "\n- "),
    ):
        split = split_policy(text)
        assert split is not None
        assert (len(split.extended_acls.texts), len(split.acls.texts)) == (3, 1)


def test_nothing_is_remembered_unless_it_is_asked_for() -> None:
    rule = "  - {name: r, adapters: web01, direction: Inbound, action: Allow}\n"
    read = reader(policy="extended_acls:\n" + rule)

    def entry(memo: Memo | None) -> object:
        loaded = load_site("l.yaml", ["p.yaml"], read=read, memo=memo)
        return loaded.guest["web01"].adapters[0].extended_acls[0]

    memo = Memo()
    assert entry(memo) is entry(memo)
    assert entry(None) is not entry(None)
    assert entry(None) == entry(memo)
