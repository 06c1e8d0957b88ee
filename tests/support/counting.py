"""A lab whose processes write down each time they parse or compile a policy.

An extension of the lab (see `running_lab`): it has the lab start `tests.support.counting_controller` in the
controller's place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from vswitch.lab.building import workers
from vswitch.lab.building.lab import RUNDIR, Lab
from vswitch.lab.process.lab_operations import operation
from vswitch.model.resolving import loader
from vswitch.pipeline import Compiler

_DONE = "work-done"  # the file with a line for each

_start = workers.Worker.start


def _start_the_other(worker: workers.Worker) -> None:
    if worker.argv and worker.argv[0] == "vswitch.controller":
        worker.argv = ("tests.support.counting_controller", *worker.argv[1:])
    _start(worker)


def count_in(process: str) -> None:
    """Have this process write down what it parses and compiles."""
    _counting(loader, "load_site", f"{process} parses")
    _counting(Compiler, "compile", f"{process} compiles")


def _counting(owner: Any, name: str, what: str) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        RUNDIR.mkdir(parents=True, exist_ok=True)
        with (RUNDIR / _DONE).open("a") as file:
            file.write(f"{what}\n")
        return real(*args, **kwargs)

    setattr(owner, name, wrapped)


@operation
def work_done(lab: Lab) -> dict[str, int]:
    """How often which process has done what since this was asked last."""
    file = lab.rundir / _DONE
    lines = file.read_text().splitlines() if file.exists() else []
    file.write_text("")
    return dict(Counter(lines))


def install() -> None:
    """Take effect, in the lab's supervisor."""
    setattr(workers.Worker, "start", _start_the_other)  # noqa: B010  mypy reads an assignment as a method's
    count_in("supervisor")
