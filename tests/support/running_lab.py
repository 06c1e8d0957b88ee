"""A real lab for tests: started from texts, asked, tampered with, and always taken down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vswitch.errors import LabError, NoSuchLab
from vswitch.lab.process import client
from vswitch.model import load_site
from vswitch.model.resolving.sources import Sources
from vswitch.model.site import Site
from vswitch.pipeline import LEARNED_COOKIE, compile_site

LAYOUT = "lab.yaml"
PATIENCE = 20.0


def wait_until(true: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Poll until it is true; fails after a time no sound machine needs."""
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, f"still not so: {what}"
        time.sleep(0.02)


@dataclass
class RunningLab:
    """A lab with one layout, whose policies are given as texts."""

    name: str
    layout: str
    policies: dict[str, str] = field(default_factory=dict)

    def call(self, op: str, **args: Any) -> Any:
        return client.call(self.name, op, **args)

    def apply(self, *texts: str) -> Any:
        """Put these policies in force; the report."""
        return self.apply_files({f"policy{index}.yaml": text for index, text in enumerate(texts)})

    def apply_files(self, files: Mapping[str, str]) -> Any:
        report = self.call("apply", policies=list(files), texts=dict(files))
        self.policies = dict(files)
        return report

    def site(self) -> Site:
        """The site that is to be in force, loaded afresh."""
        texts = {LAYOUT: self.layout, **self.policies}
        return load_site(LAYOUT, tuple(self.policies), read=texts.__getitem__)

    def flows(self) -> dict[str, set[str]]:
        """Switch to its flows but learned ones, without counters: cookie and what it says."""
        return {
            switch: {
                f"{f['cookie']:#x} {f['table']} {f['priority']} {f['match']} {f['actions']}"
                for f in found
                if f["cookie"] != LEARNED_COOKIE
            }
            for switch, found in self.call("flows").items()
        }

    def cookies(self) -> dict[str, list[int]]:
        """Switch to the cookies it holds, each as often as there is a flow with it."""
        return {
            switch: sorted(f["cookie"] for f in found if f["cookie"] != LEARNED_COOKIE)
            for switch, found in self.call("flows").items()
        }

    def fresh_cookies(self) -> dict[str, list[int]]:
        """The same for a lab freshly started with the policies in force."""
        programs = compile_site(self.site())
        return {
            program.switch.id: sorted(program.flows)
            for host in programs.values()
            for program in host.switches.values()
        }

    def probe(self, source: str, destination: str, traffic: str, **options: Any) -> str:
        """The outcome of real packets; several, joined, for a range."""
        found = self.call("probe", source=source, destination=destination, traffic=traffic, **options)
        return ", ".join(report["outcome"] for report in found["reports"])

    def popen(self, guest: str | None, *argv: str) -> subprocess.Popen[str]:
        """Start a command in a guest, or among the lab's own processes, with pipes."""
        command, descriptors = client.guest_command(self.name, guest, argv)
        try:
            return subprocess.Popen(
                command, pass_fds=descriptors, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    @contextmanager
    def python(self, guest: str, script: str, *args: str) -> Iterator[Talker]:
        """Run a Python script in a guest for as long as the block lasts."""
        process = self.popen(guest, sys.executable, "-u", "-c", script, *args)
        try:
            yield Talker(process)
        finally:
            # The process that entered the namespaces has the script itself as its child.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def inside(self, *argv: str) -> str:
        """Run a command among the lab's own processes and files; what it printed."""
        process = self.popen(None, *argv)
        output, errors = process.communicate(timeout=PATIENCE * 3)
        assert process.returncode == 0, f"{argv}: {errors}"
        return output

    def ofctl(self, host: int, command: str, *args: str) -> str:
        """ovs-ofctl at bridge br0 of the host with this index."""
        socket = f"unix:/run/vswitch/hosts/{host}/br0.mgmt"
        return self.inside("ovs-ofctl", "-O", "OpenFlow14", command, socket, *args)

    def delete_flow(self, host: int, cookie: int) -> None:
        """Delete a flow behind the controller's back."""
        self.ofctl(host, "del-flows", f"cookie={cookie:#x}/-1")

    def controller(self) -> int:
        """The controller's process id in the lab's numbering."""
        return int(self.call("status")["processes"]["controller"])

    def signal_controller(self, signal: str) -> None:
        self.inside("kill", f"-{signal}", str(self.controller()))

    def restart_controller(self) -> None:
        """Kill the controller; returns when the next one has every switch."""
        before = self.call("status")["restarts"]["controller"]
        self.signal_controller("KILL")
        wait_until(lambda: self.call("status")["restarts"]["controller"] > before, "it was started again")
        self.wait_ready()

    def wait_ready(self) -> None:
        wait_until(self._is_ready, "the controller has every switch")

    def _is_ready(self) -> bool:
        try:
            return not self.call("controller_status")["missing"]
        except LabError:
            return False


@dataclass
class Talker:
    """A script in a guest that is spoken to line by line."""

    process: subprocess.Popen[str]

    def hear(self) -> str:
        """The next line it prints."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr
            raise AssertionError(f"the script ended: {self.process.stderr.read()}")
        return line.strip()

    def say(self, line: str) -> str:
        """Tell it something; its answer."""
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.hear()


@contextmanager
def running_lab(
    layout: str,
    policies: Mapping[str, str] | None = None,
    extensions: Sequence[str] = (),
    log_file: Path | None = None,
) -> Iterator[RunningLab]:
    """A lab of its own name for as long as the block lasts."""
    lab = RunningLab(f"test-{uuid.uuid4().hex[:12]}", layout, dict(policies or {}))
    sources = Sources(LAYOUT, {LAYOUT: layout, **lab.policies}, tuple(lab.policies))
    known = ("vswitch.diagnose.question_operations", *extensions)
    client.start(lab.name, sources, extensions=known, log_file=log_file)
    try:
        yield lab
    finally:
        with suppress(NoSuchLab):
            client.down(lab.name)
