"""The command line called in this process, and one lab for each module."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.support.command_line import LAYOUT, POLICY, Ran, Run
from tests.support.running_lab import RunningLab, running_lab
from vswitch.cli.main import main


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `vswitch` with these arguments. A traceback, which no user may see, fails the test."""

    def call(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["vswitch", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as raised:
            main()
        out, err = capfd.readouterr()
        code = raised.value.code
        ran = Ran(code if isinstance(code, int) else 0, out, err)
        assert "Traceback" not in out + err
        assert "fault of vswitch" not in out + err, out + err
        return ran

    return call


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """A lab of LAYOUT with POLICY."""
    with running_lab(LAYOUT, {"policy.yaml": POLICY}) as lab:
        yield lab
