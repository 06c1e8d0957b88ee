from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from tests.support.more_frames import arp_reply, later_fragment, neighbour_advertisement
from vswitch.semantics.frame import (
    BROADCAST,
    Fragment,
    arp_request,
    icmp_echo,
    is_multicast,
    multicast_mac,
    neighbour_solicitation,
    port_unreachable,
    raw,
    tcp,
    udp,
)

A, B = "00-15-5D-00-00-01", "00-15-5D-00-00-02"
V4, W4 = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
V6, W6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::ab:cdef")


@pytest.mark.parametrize(
    ("address", "mac"),
    [
        ("224.0.0.1", "01-00-5E-00-00-01"),
        ("239.255.1.2", "01-00-5E-7F-01-02"),
        ("255.255.255.255", BROADCAST),
        ("ff02::1:ffab:cdef", "33-33-FF-AB-CD-EF"),
    ],
)
def test_group_addresses_have_their_group_macs(address: str, mac: str) -> None:
    assert multicast_mac(ip_address(address)) == mac
    assert is_multicast(mac)


def test_arp_request_is_a_broadcast_and_its_reply_is_unicast() -> None:
    request = arp_request(A, V4, W4, vlan=10)
    assert (request.dst_mac, request.is_ip, request.vlan) == (BROADCAST, False, 10)
    assert request.reply(B) == arp_reply(B, W4, A, V4, vlan=10)


def test_neighbour_solicitation_goes_to_the_solicited_node_group() -> None:
    request = neighbour_solicitation(A, V6, W6)
    assert (request.dst_mac, str(request.dst)) == ("33-33-FF-AB-CD-EF", "ff02::1:ffab:cdef")
    assert request.is_neighbour_discovery
    assert request.reply(B).src == W6
    assert request.reply(B).icmp_type == neighbour_advertisement(B, W6, A, V6).icmp_type


def test_replies_swap_both_ends() -> None:
    syn = tcp(A, B, V4, W4, 50000, 80)
    answer = syn.reply()
    assert (answer.src, answer.src_port, answer.dst_port, answer.dst_mac) == (W4, 80, 50000, A)
    assert (answer.tcp_flags, answer.reply().tcp_flags) == ("SA", "A")
    assert icmp_echo(A, B, V4, W4).reply().icmp_type == 0
    assert icmp_echo(A, B, V6, W6).reply().icmp_type == 129


def test_a_later_fragment_has_no_transport_header() -> None:
    fragment = later_fragment(udp(A, B, V4, W4, 1, 2))
    assert (fragment.src_port, fragment.dst_port, fragment.fragment) == (None, None, Fragment.LATER)
    assert fragment.protocol == 17


@pytest.mark.parametrize(
    ("frame", "summary"),
    [
        (tcp(A, B, V4, W4, 50000, 80), "TCP SYN 10.0.0.1:50000 > 10.0.0.2:80"),
        (udp(A, B, V6, W6, 5, 53), "UDP [2001:db8::1]:5 > [2001:db8::ab:cdef]:53"),
        (arp_request(A, V4, W4), "ARP who has 10.0.0.2, tell 10.0.0.1"),
        (arp_reply(A, V4, B, W4), f"ARP 10.0.0.1 is at {A}"),
        (neighbour_solicitation(A, V6, W6), "ND who has 2001:db8::ab:cdef, tell 2001:db8::1"),
        (port_unreachable(A, B, V4, W4), "ICMPv4 type 3 code 3 10.0.0.1 > 10.0.0.2"),
        (raw(A, B, 0x88CC), "ethertype 0x88cc"),
    ],
)
def test_summary_reads_like_a_capture(frame: object, summary: str) -> None:
    assert frame.summary == summary  # type: ignore[attr-defined]
