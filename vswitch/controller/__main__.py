"""The controller's process: `python -m vswitch.controller`. The lab starts and restarts it.

It inherits the sockets it listens on, so nobody ever finds them missing.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import socket
import sys
from pathlib import Path

from os_ken import cfg
from os_ken.base.app_manager import AppManager

from vswitch import wire
from vswitch.controller.openflow import OpenFlowService
from vswitch.controller.requests import handler
from vswitch.controller.transaction import Transactions
from vswitch.controller.virtual_switch import VirtualSwitch
from vswitch.errors import VswitchError
from vswitch.log import log_whatever_happens


def main() -> None:
    """Run until killed. Exit status 1 with a sentence on standard error if it cannot start."""
    parser = argparse.ArgumentParser(prog="vswitch.controller")
    parser.add_argument("--rundir", type=Path, required=True, help="the lab's run folder")
    parser.add_argument("--openflow", type=int, required=True, help="descriptor switches connect to")
    parser.add_argument("--requests", type=int, required=True, help="descriptor requests come to")
    arguments = parser.parse_args()
    log_whatever_happens()
    rundir: Path = arguments.rundir
    # A policy of 100,000 entries is half a million objects that stay: looking through them again and
    # again for garbage would take a third of an apply.
    gc.set_threshold(200_000, 50, 100)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s controller %(levelname)s %(message)s")
    cfg.CONF(args=[], project="vswitch", default_config_files=[])
    try:
        transactions = Transactions(rundir)
    except VswitchError as error:
        print(error, file=sys.stderr)
        # OS-Ken's threads are not daemons; none runs yet, but neither is there anything to clean up.
        os._exit(1)
    OpenFlowService.listener = socket.socket(fileno=arguments.openflow)
    VirtualSwitch.transactions = transactions
    manager = AppManager.get_instance()
    manager.applications_cls["os_ken.controller.ofp_handler"] = OpenFlowService
    manager.applications_cls["vswitch.controller.virtual_switch"] = VirtualSwitch
    manager.instantiate_apps(**manager.create_contexts())
    wire.serve(socket.socket(fileno=arguments.requests), handler(transactions))


if __name__ == "__main__":
    main()
