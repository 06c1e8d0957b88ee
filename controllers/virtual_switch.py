"""The OpenFlow controller, for those who start it by hand: `python controllers/virtual_switch.py --help`.

Labs start `python -m vswitch.controller` themselves. The code is in `vswitch/controller`.
"""

from __future__ import annotations

from vswitch.controller.__main__ import main

if __name__ == "__main__":
    main()
