"""The controller's process: `python -m controllers --rundir DIR`. The lab starts and restarts it."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from os_ken import cfg
from os_ken.base.app_manager import AppManager

from controllers.openflow import OpenFlowService, listen
from controllers.requests import handler
from controllers.transaction import Transactions
from controllers.virtual_switch import VirtualSwitch
from vswitch import wire
from vswitch.errors import VswitchError


def main() -> None:
    """Run until killed. Exit status 1 with a sentence on standard error if it cannot start."""
    parser = argparse.ArgumentParser(prog="controllers", description=__doc__)
    parser.add_argument("--rundir", type=Path, required=True, help="the lab's run folder")
    rundir: Path = parser.parse_args().rundir
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s controller %(levelname)s %(message)s")
    cfg.CONF(args=[], project="vswitch", default_config_files=[])
    try:
        transactions = Transactions(rundir)
    except VswitchError as error:
        print(error, file=sys.stderr)
        # OS-Ken's threads are not daemons; none runs yet, but neither is there anything to clean up.
        os._exit(1)
    OpenFlowService.path = rundir / "openflow.sock"
    VirtualSwitch.transactions = transactions
    manager = AppManager.get_instance()
    manager.applications_cls["os_ken.controller.ofp_handler"] = OpenFlowService
    manager.applications_cls["controllers.virtual_switch"] = VirtualSwitch
    manager.instantiate_apps(**manager.create_contexts())
    wire.serve(listen(rundir / "controller.sock"), handler(transactions))


if __name__ == "__main__":
    main()
