"""Who gets copies of a conversation, as `explain` tells it."""

from __future__ import annotations

from tests.support.sites import SiteBuilder, access, extended, trunk
from vswitch.diagnose.explain import explain
from vswitch.model.site import Site
from vswitch.model.traffic import parse_traffic
from vswitch.model.types import PortMirroring

SOURCE, DESTINATION = PortMirroring.SOURCE, PortMirroring.DESTINATION
NO_COPIES = extended("Deny", "Inbound", 7, protocol="TCP", remote_port=80, name="no-answers")


def site(**settings: object) -> Site:
    builder = SiteBuilder().switch("vs").switch("other")
    builder.vm("a", "10.0.0.1/24", vlan=access(10), **settings)  # type: ignore[arg-type]
    builder.vm("b", "10.0.0.2/24", vlan=access(10), services=["tcp/80"])
    builder.vm("all", vlan=trunk(10, native=1), port_mirroring=DESTINATION)
    builder.vm("half", vlan=access(10), port_mirroring=DESTINATION, rules=[NO_COPIES])
    builder.vm("blind", port_mirroring=DESTINATION)
    return builder.vm("away", switch="other", port_mirroring=DESTINATION).build()


def told(of: Site) -> dict[str, tuple[int, list[str]]]:
    (answer,) = explain(of, "a", "b", parse_traffic("tcp/80")).to_dict()["answers"]
    assert {each["switch"] for each in answer["mirrored"]} <= {"hv01/vs"}
    assert not [rule for rule in answer["rules"] if rule["name"] == "no-answers"]
    return {each["adapter"]: (each["copies"], each["stopped_by"]) for each in answer["mirrored"]}


def test_each_destination_has_its_copies_and_what_stops_them() -> None:
    assert told(site(port_mirroring=SOURCE)) == {
        "all/Network Adapter": (3, []),
        "half/Network Adapter": (2, ["no-answers"]),  # SYN and ACK, not the SYN-ACK
        "blind/Network Adapter": (0, ["FilteredVLAN"]),
    }


def test_without_a_source_nothing_is_told() -> None:
    assert told(site()) == {}


def test_nor_of_what_takes_a_virtual_function() -> None:
    assert told(site(port_mirroring=SOURCE, virtual_function=True)) == {}
