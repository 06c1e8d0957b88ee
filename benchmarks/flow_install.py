"""Baseline: 100,000 flows by one `ovs-ofctl` bundle, and OS-Ken's cost of only building the messages."""

from __future__ import annotations

import time

from benchmarks import rig

FLOWS = 100_000


def bundle(seconds: float) -> float:
    """Seconds from the start of ovs-ofctl until the switch has confirmed all flows."""
    instance = rig.lab_switch()
    text = "".join(
        f"add table=1,priority=100,cookie={number:#x},tcp,in_port=1,nw_src={_address(number)},"
        f"tp_dst={number % 60000 + 1},actions=resubmit(,2)\n"
        for number in range(FLOWS)
    )
    began = time.perf_counter()
    instance.bundle("br0", text)
    took = time.perf_counter() - began
    installed = instance.dump_text("br0").count("cookie=")
    if installed != FLOWS:
        raise RuntimeError(f"the switch holds {installed} flows")
    return took


def serialise(seconds: float) -> float:
    """Seconds to turn as many OFPFlowMod objects into bytes; nothing is sent."""
    from os_ken.ofproto import ofproto_v1_3 as ofproto
    from os_ken.ofproto import ofproto_v1_3_parser as parser
    from os_ken.ofproto.ofproto_protocol import ProtocolDesc

    datapath = ProtocolDesc(version=ofproto.OFP_VERSION)
    began = time.perf_counter()
    for number in range(FLOWS):
        match = parser.OFPMatch(
            in_port=1, eth_type=0x800, ip_proto=6, ipv4_src=_address(number), tcp_dst=number % 60000 + 1
        )
        message = parser.OFPFlowMod(
            datapath=datapath,
            cookie=number,
            table_id=1,
            priority=100,
            match=match,
            instructions=[parser.OFPInstructionGotoTable(2)],
        )
        message.set_xid(number)
        message.serialize()
    return time.perf_counter() - began


def _address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
