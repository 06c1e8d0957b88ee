"""A frame in ovs-ofctl's words, so that Open vSwitch can be asked what it would do with it."""

from __future__ import annotations

from vswitch.model.types import ICMPV4, ICMPV6, TCP, UDP, colon_mac
from vswitch.semantics.frame import ARP, IPV4, IPV6, IPV6_FRAGMENT, Fragment, Frame

__all__ = ["flow_text"]

_FAMILY = {
    (IPV4, TCP): "tcp",
    (IPV4, UDP): "udp",
    (IPV4, ICMPV4): "icmp",
    (IPV6, TCP): "tcp6",
    (IPV6, UDP): "udp6",
    (IPV6, ICMPV6): "icmp6",
}
_FRAGMENTS = {Fragment.NONE: "no", Fragment.FIRST: "first", Fragment.LATER: "later"}


def flow_text(frame: Frame, in_port: int) -> str:
    """`frame` as `ofproto/trace` takes it, entering by OpenFlow port `in_port`."""
    words = [f"in_port={in_port}", f"dl_src={colon_mac(frame.src_mac)}", f"dl_dst={colon_mac(frame.dst_mac)}"]
    if frame.vlan is not None:
        words += [f"dl_vlan={frame.vlan}", f"dl_vlan_pcp={frame.priority}"]
    if frame.ethertype == ARP:
        words += ["arp", f"arp_spa={frame.src}", f"arp_tpa={frame.dst}", f"arp_op={frame.arp_operation}"]
    elif frame.is_ip:
        words += _ip_words(frame)
    else:
        words.append(f"dl_type={frame.ethertype:#06x}")
    return ",".join(words)


def _ip_words(frame: Frame) -> list[str]:
    prefix = "nw" if frame.ethertype == IPV4 else "ipv6"
    plain = "ip" if frame.ethertype == IPV4 else "ipv6"
    headless = frame.ethertype == IPV6 and frame.fragment is Fragment.LATER
    protocol = IPV6_FRAGMENT if headless else frame.protocol or 0
    family = _FAMILY.get((frame.ethertype, protocol))
    words = [family] if family else [plain, f"nw_proto={protocol}"]
    words += [
        f"{prefix}_src={frame.src}",
        f"{prefix}_dst={frame.dst}",
        f"nw_frag={_FRAGMENTS[frame.fragment]}",
    ]
    if family and frame.fragment is not Fragment.LATER:
        if frame.protocol in (TCP, UDP):
            name = "tcp" if frame.protocol == TCP else "udp"
            words += [f"{name}_src={frame.src_port}", f"{name}_dst={frame.dst_port}"]
        elif frame.icmp_type is not None:
            name = "icmp" if frame.ethertype == IPV4 else "icmpv6"
            words += [f"{name}_type={frame.icmp_type}", f"{name}_code={frame.icmp_code or 0}"]
    return words
