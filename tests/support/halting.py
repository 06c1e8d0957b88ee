"""A lab whose controller can be killed, or held up, at a named point of its next apply.

An extension of the lab (see `running_lab`): it has the lab start `tests.support.halting_controller` in the
controller's place.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.support.known import known
from vswitch.lab.building import workers
from vswitch.lab.building.lab import RUNDIR, Lab
from vswitch.lab.process.lab_operations import operation

HALT = "halt"  # the file that names what is to happen, and where
DEFAULT_PATIENCE = 1.0  # seconds
HELD = "held"  # there while the controller is held up

_start = workers.Worker.start


def _start_the_other(worker: workers.Worker) -> None:
    if worker.argv and worker.argv[0] == "vswitch.controller":
        worker.argv = ("tests.support.halting_controller", *worker.argv[1:])
    _start(worker)


setattr(workers.Worker, "start", _start_the_other)  # noqa: B010  mypy reads an assignment as a method's
# The seconds that an apply may take are not those of other questions to the controller.
known(Lab.ask_controller.__kwdefaults__)["timeout"] = DEFAULT_PATIENCE
workers._STEADY = 0.0  # a controller that is killed is started again at once, however often


@operation
def halt(lab: Lab, what: str, point: str) -> None:
    """Have the controller "kill" itself or "hold" when it comes to this point."""
    (lab.rundir / HALT).write_text(f"{what} {point}")


@operation
def is_held(lab: Lab) -> bool:
    """Whether it is held up."""
    return (lab.rundir / HELD).exists()


@operation
def go_on(lab: Lab) -> None:
    """Let it go on."""
    with contextlib.suppress(FileNotFoundError):
        (lab.rundir / HELD).unlink()


def halt_file() -> Path:
    """Where a controller finds what it is to do."""
    return RUNDIR / HALT
