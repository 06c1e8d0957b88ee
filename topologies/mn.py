"""Any layout for the `mn` command of Mininet:

    mn --custom topologies/mn.py --topo layout,topologies/two-hosts.yaml --controller none

Further names after the layout are policy files in the place of those it names. `mn` starts again in
a private world of its own (network, mounts, process numbers; no root needed), so nothing of the
machine is touched and nothing is left, whatever ends it. Mininet's clean-up by process name is
replaced by taking down the lab.
"""

import os
import sys
from pathlib import Path


def _find_vswitch(here: Path) -> None:
    """Make `vswitch` importable for a Python that is not the project's own, such as Debian's `mn`."""
    root = here.resolve().parent.parent
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = [Path(os.environ[name]) for name in ("VIRTUAL_ENV",) if os.environ.get(name)]
    packages = [place / "lib" / version / "site-packages" for place in (*places, root / ".venv")]
    found = [str(path) for path in (root, *packages) if path.is_dir() and str(path) not in sys.path]
    sys.path += found
    # For the lab's own processes too.
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*found, *([inherited] if inherited else [])])


_find_vswitch(Path(sys._getframe().f_code.co_filename))

from vswitch.errors import VswitchError  # noqa: E402
from vswitch.lab.isolation import enter  # noqa: E402

try:
    enter()
except VswitchError as _error:
    sys.exit(f"vswitch: {_error}")

from vswitch.lab.building.lab import Lab  # noqa: E402
from vswitch.lab.mininet_net import LabMininet as Mininet  # noqa: E402, F401 (mn takes its name)
from vswitch.lab.mininet_net import LabTopo  # noqa: E402
from vswitch.model.resolving.sources import Sources  # noqa: E402
from vswitch.textfiles import read_text  # noqa: E402

_labs: list[Lab] = []


def _layout(layout: str, *policies: str) -> LabTopo:
    """The topology of a layout file."""
    try:
        site, sources = Sources.read(layout, policies or None, read=read_text)
    except VswitchError as error:
        print(f"vswitch: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    _labs.append(Lab(site, sources))
    return LabTopo(lab=_labs[-1])


topos = {"layout": _layout}


def cleanup() -> None:
    """What `mn` calls when it is interrupted or fails."""
    for lab in _labs:
        lab.down()
