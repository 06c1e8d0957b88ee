"""Meters of a real Open vSwitch: read as they are written, exact, and in what order they come and go."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.switch_rig import Rig, Space
from vswitch.errors import SwitchError
from vswitch.lab.isolation.netns import in_netns
from vswitch.openvswitch import Instance
from vswitch.openvswitch.meters import parse_meter_drops, parse_meters

pytestmark = pytest.mark.ovs

FIVE = "meter=5,pktps,burst,band=type=drop,rate=5,burst_size=5"
FRAME = b"\xff" * 6 + b"\2\0\0\0\0\1" + b"\x88\xb5" + bytes(50)
Metered = tuple[Instance, tuple[Space, Space]]
FLOWS = "add table=0,cookie=0x5,in_port=1,dl_type=0x88b5 actions=meter:5,output:2"


@pytest.fixture
def metered(empty: Rig) -> Iterator[Metered]:
    """The rig without flows and without meters, before and after."""

    def clear() -> None:
        empty.instance.bundle("br0", "delete")
        meters = empty.instance.meters("br0")
        empty.instance.change_meters("br0", [("del-meter", f"meter={number}") for number in meters])

    clear()
    yield empty.instance, empty.guests
    clear()


def send(guests: tuple[Space, Space], times: int) -> int:
    """Send frames from guest 1; how many guest 2 got."""

    def ear() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
        sock.bind(("eth0", 0x88B5))
        sock.settimeout(0.5)
        return sock

    mouth, listener = (in_netns(guest.path, ear) for guest in guests)
    with mouth, listener:
        for _ in range(times):
            mouth.send(FRAME)
        got = 0
        try:
            while listener.recv(200) == FRAME:
                got += 1
        except TimeoutError:
            return got
    raise AssertionError("another frame came")


def test_meters_are_read_as_they_are_written(metered: Metered) -> None:
    switch, _ = metered
    texts = [
        FIVE,
        "meter=65543,kbps,burst,band=type=drop,rate=100000,burst_size=25000",
        "meter=262144,pktps,burst,band=type=drop,rate=4294967295,burst_size=4294967295",
    ]
    switch.change_meters("br0", [("add-meter", text) for text in texts])
    assert switch.meters("br0") == dict(zip((5, 65543, 262144), texts, strict=True))
    assert switch.meter_drops("br0") == dict.fromkeys((5, 65543, 262144), (0, 0))
    changed = FIVE.replace("rate=5", "rate=7")
    switch.change_meters("br0", [("mod-meter", changed), ("del-meter", "meter=65543")])
    assert switch.meters("br0") == {5: changed, 262144: texts[2]}


def test_a_meter_passes_its_burst_and_counts_what_it_drops(metered: Metered) -> None:
    switch, guests = metered
    switch.change_meters("br0", [("add-meter", FIVE)])
    switch.bundle("br0", FLOWS)
    began = time.monotonic()
    got = send(guests, 100)
    most = 5 + 5 * (time.monotonic() - began)
    assert 5 <= got <= most
    assert switch.meter_drops("br0")[5] == (100 - got, (100 - got) * len(FRAME))
    switch.change_meters("br0", [("mod-meter", FIVE.replace("=5,burst_size=5", "=1000,burst_size=1000"))])
    assert send(guests, 100) == 100
    assert switch.dump_flows("br0")[0].cookie == 0x5


def test_a_flow_needs_its_meter_and_goes_with_it(metered: Metered) -> None:
    switch, _ = metered
    with pytest.raises(SwitchError, match="OFPMMFC_INVALID_METER"):
        switch.bundle("br0", FLOWS)
    switch.change_meters("br0", [("add-meter", FIVE)])
    switch.bundle("br0", FLOWS)
    with pytest.raises(SwitchError, match=r"bridge br0: add-meter meter=5.* failed: .*METER_EXISTS"):
        switch.change_meters("br0", [("add-meter", FIVE)])
    switch.change_meters("br0", [("del-meter", "meter=5")])
    assert switch.dump_flows("br0") == []


@pytest.mark.parametrize("read", [parse_meters, parse_meter_drops])
def test_what_is_no_meter_is_an_error(read: Callable[[str], dict[int, Any]]) -> None:
    assert read("OFPST_METER reply (OF1.4) (xid=0x2):\n") == {}
    with pytest.raises(SwitchError, match="not understood: surprise"):
        read("OFPST_METER reply (OF1.4) (xid=0x2):\nsurprise\n")
