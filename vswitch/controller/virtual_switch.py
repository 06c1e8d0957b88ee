"""The learning virtual switch: the OS-Ken application.

It knows which switches are connected and sees to it that each holds exactly its program. Frames
never come here: adapters' MACs are fixed entries, other MACs are learned in the datapath itself,
so a controller that is slow, or dead, changes no verdict.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.ofproto import ofproto_v1_4

from vswitch.controller.transaction import Transactions
from vswitch.errors import SwitchError, VswitchError

__all__ = ["VirtualSwitch"]

_LOG = logging.getLogger(__name__)

#: Seconds before a switch that did not take its program is tried again.
_PAUSE = 1.0


class VirtualSwitch(app_manager.OSKenApp):
    """Gives every switch that connects its program, and keeps the list of those connected.

    Handlers only note what happened and return: OS-Ken reads from a switch in the same thread that
    calls them. The comparing and sending is done by one worker.
    """

    OFP_VERSIONS = (ofproto_v1_4.OFP_VERSION,)
    transactions: Transactions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sessions: dict[int, Any] = {}
        self._work: queue.SimpleQueue[int] = queue.SimpleQueue()
        for _ in range(self.transactions.workers):
            threading.Thread(target=self._reconcile_loop, name="reconcile", daemon=True).start()

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def state_changed(self, event: Any) -> None:
        """A switch has finished its handshake, or is gone."""
        datapath = event.datapath
        if event.state == MAIN_DISPATCHER:
            self._sessions[datapath.id] = datapath
            self._work.put(datapath.id)
            return
        current = self._sessions.get(datapath.id)
        if current is not None and current is datapath:
            # A switch that came back at once has a new session already: that one is left alone.
            del self._sessions[datapath.id]
            self.transactions.disconnected(datapath.id)

    @set_ev_cls(ofp_event.EventOFPErrorMsg, MAIN_DISPATCHER)
    def refused(self, event: Any) -> None:
        """The switch refused a message of this session."""
        message = event.msg
        _LOG.error(
            "switch %x refused a message: type %s code %s", message.datapath.id, message.type, message.code
        )

    def _reconcile_loop(self) -> None:
        while True:
            datapath_id = self._work.get()
            try:
                self.transactions.connected(datapath_id)
            except SwitchError as error:
                _LOG.error("switch %x: %s", datapath_id, error)
                self._try_again(datapath_id)
            except VswitchError as error:
                _LOG.error("switch %x: %s", datapath_id, error)

    def _try_again(self, datapath_id: int) -> None:
        """A connected switch did not take its program: have it compared again in a moment."""
        if datapath_id in self._sessions:
            again = threading.Timer(_PAUSE, self._work.put, [datapath_id])
            again.daemon = True
            again.start()
