"""Full disks, and machines without processes, memory or open files to spare: a sentence, exit status 3."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.command_line import LAYOUT
from tests.support.hanging import ROOT, command, ended, start, supervisor_of
from tests.support.known import known
from tests.support.running_lab import RunningLab, running_lab, wait_until
from vswitch.errors import Fault, LabError, OutOfResources
from vswitch.exhausted import exhausted_by, exhausted_in
from vswitch.lab.process import client
from vswitch.lab.process.finding import address_of
from vswitch.model.resolving.sources import Sources
from vswitch.patience import Patience
from vswitch.wire import connect


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """A lab whose log is on a full disk."""
    with running_lab(LAYOUT, log_file=Path("/dev/full")) as lab:
        yield lab


@contextmanager
def no_more_files(name: str) -> Iterator[None]:
    """The lab's supervisor has all the files open that it may: connections of those who say nothing."""
    pid = supervisor_of(name)
    assert pid is not None
    used = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(used) + 1, before[1]))
    try:
        with ExitStack() as silent:
            # A few more than there is room for: what was open when it was counted may have been closed since.
            for _ in range(max(used) + 5 - len(used)):
                silent.enter_context(connect("\0" + address_of(name), 20))
            yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.lab
@pytest.mark.parametrize("worker", ["controller", "services"])
def test_a_worker_is_started_again_though_its_end_cannot_be_logged(lab: RunningLab, worker: str) -> None:
    before = lab.call("status")
    lab.inside("kill", "-KILL", str(before["processes"][worker]))
    wait_until(
        lambda: lab.call("status")["processes"].get(worker) != before["processes"][worker],
        "it is another one",
    )
    lab.wait_ready()
    wait_until(lambda: lab.probe("web02", "web01", "http") == "open", "the service answers")


def ping(lab: RunningLab) -> bool:
    with suppress(OutOfResources):
        return bool(lab.call("ping") == "pong")
    return False


@pytest.mark.lab
def test_a_lab_that_has_no_open_files_left_says_so(lab: RunningLab) -> None:
    with no_more_files(lab.name):
        with pytest.raises(OutOfResources, match="open files") as caught:
            lab.call("status", within=Patience(20, 20, 20))
        status, said = ended(start("exec", "--lab", lab.name, "--timeout", "20", "web01", "--", "true"), 40)
    assert "ulimit" in caught.value.hint
    assert (status, "run out of open files" in said) == (3, True), said
    wait_until(lambda: ping(lab), "it answers again")


@pytest.mark.lab
@pytest.mark.parametrize("words", [("ps",), ("ps", "-o", "json"), ("flows", "-o", "json"), ("flows",)])
def test_a_full_disk_under_the_output(lab: RunningLab, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(*words, "--lab", lab.name), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.startswith("error: this machine has run out of space on a disk\n")


@pytest.mark.lab
@pytest.mark.parametrize("words", [("flows",), ("flows", "-o", "json")])
def test_a_reader_who_has_seen_enough(lab: RunningLab, words: tuple[str, ...]) -> None:
    process = start(*words, "--lab", lab.name)
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    assert process.stderr
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), said) == (1, "")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(closed: str) -> None:
    shell = ["sh", "-c", f'"$@" {closed}', "sh", *command("schema", "layout")]
    done = subprocess.run(
        shell, capture_output=True, timeout=60, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.lab
def test_no_memory_for_the_command_itself(lab: RunningLab) -> None:
    done = subprocess.run(
        ["prlimit", f"--as={35_000_000}", *command("ps", "--lab", lab.name)], capture_output=True, text=True,
        timeout=60, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, "run out of memory" in done.stderr) == (3, True), done.stderr


@pytest.mark.lab
@pytest.mark.skipif(os.getuid() != 0, reason="root's number of processes has no limit: becoming another user")
def test_no_process_for_a_lab() -> None:
    script = (
        "import os, resource, sys\n"
        "from vswitch.cli.main import main\n"  # while its files can still be read
        "from vswitch.lab import isolation\n"
        "isolation.check = lambda: None\n"  # /dev/net/tun may be root's alone here
        "os.setgid(65534); os.setuid(65534); resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))\n"
        "sys.argv[0] = 'vswitch'; main()\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as layout:
        layout.write(LAYOUT)
        layout.flush()
        Path(layout.name).chmod(0o644)
        words = [command()[0], "-c", script, "up", layout.name, "--name", f"none-{os.getpid()}"]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=60, check=False, cwd="/",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert (done.returncode, "run out of processes or threads" in done.stderr) == (3, True), done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user")
@pytest.mark.parametrize(("user", "of"), [(0, "memory"), (65534, "processes, threads or memory")])
def test_no_memory_for_the_stack_of_a_thread(user: int, of: str) -> None:
    """The C library says the same of it as of one process too many, of which root may have any number."""
    script = (
        "import os, threading\n"
        "from vswitch.exhausted import exhausted_by\n"
        f"os.setuid({user})\n"
        "threading.stack_size(1 << 29)\n"
        "try:\n"
        "    threading.Thread(target=print).start()\n"
        "except RuntimeError as error:\n"
        "    print(exhausted_by(error))\n"
    )
    done = subprocess.run(
        ["prlimit", "--as=400000000", "--nproc=5000", sys.executable, "-c", script],
        capture_output=True, text=True, timeout=60, check=True, cwd=ROOT,
    )  # fmt: skip
    assert f"run out of {of}" in done.stdout, done.stdout
    assert "ulimit -v" in done.stdout


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC])
def test_what_the_system_says_is_recognised(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert known(exhausted_by(error)).exit_status == 3
    assert known(exhausted_in(f"unshare: fork failed: {os.strerror(number)}")).exit_status == 3

    def refused() -> None:
        try:
            raise error
        except OSError:
            raise LabError("cannot enter guest web01") from None

    with pytest.raises(LabError) as wrapped:
        refused()
    assert "cannot enter guest web01" in known(exhausted_by(wrapped.value)).message
    assert known(exhausted_by(wrapped.value)).hint


def test_nothing_else_is_taken_for_it() -> None:
    for error in (OSError(errno.ENOENT, "no"), RuntimeError("x"), KeyError("y"), Fault("z"), LabError("a")):
        assert exhausted_by(error) is None
    assert exhausted_in("unshare: unshare failed: Operation not permitted") is None
    assert known(exhausted_by(RuntimeError("can't start new thread"))).exit_status == 3
    assert known(exhausted_by(MemoryError())).exit_status == 3


@pytest.mark.lab
def test_a_pipe_is_no_log_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, said in ((tmp_path / "fifo", "neither a file nor a device"), (tmp_path, "Is a directory")):
        with pytest.raises(LabError, match=said):
            client.start("never", Sources("x", {}, ()), log_file=path)
