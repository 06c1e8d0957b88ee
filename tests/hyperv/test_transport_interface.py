"""What lies above the transport knows its interface only, so that another one can be put in its place."""

from __future__ import annotations

import subprocess
import sys

IMPORT_WITHOUT_WINRM = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("winrm", "requests", "urllib3", "spnego"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import vswitch.hyperv
names = [each.name for each in pkgutil.walk_packages(vswitch.hyperv.__path__, "vswitch.hyperv.")]
above = [name for name in names if not name.startswith("vswitch.hyperv.winrm")]
for name in [*above, "vswitch.hyperv.winrm.interface"]:
    importlib.import_module(name)
try:
    importlib.import_module("vswitch.hyperv.winrm.transport")
except ModuleNotFoundError:
    print(len(above))
"""


def test_only_the_transport_needs_the_libraries_below_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT_WINRM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20, "the control: pywinrm was not missing"
