"""Commands run as an ordinary user, from tests that run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["as_ordinary_user", "require_ordinary_user"]

UID = 54321  # nobody's: neither a user of this machine nor a lab's
ROOT = Path(__file__).resolve().parents[2]

# /dev/net/tun as distributions have it, open to all, in a mount namespace that ends with the command.
_OPEN_TUN = """
folder=$(mktemp -d)
mount -t tmpfs none "$folder"
mknod -m 666 "$folder/tun" c 10 200
mount --bind "$folder/tun" /dev/net/tun
umount -l "$folder"
rmdir "$folder"
exec "$@"
"""


def as_ordinary_user(*words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run `vswitch` with these words as an ordinary user: the one of the tests, or one that root makes up."""
    command = [sys.executable, "-c", "from vswitch.cli.main import main; main()", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("VSWITCH_LAB", None)
    if os.geteuid() == 0:
        user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *command]
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _OPEN_TUN, "_", *user]
    return subprocess.run(
        command, env=environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip


def require_ordinary_user() -> None:
    """Skip the test where no ordinary user can run our interpreter, or make user namespaces."""
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("no setpriv")
        user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        for command in ([sys.executable, "-c", "import os; os.listdir('/')"], ["unshare", "--user", "true"]):
            if subprocess.run([*user, *command], cwd="/", capture_output=True, check=False).returncode:
                pytest.skip(f"an ordinary user cannot run {command[0]} here")
