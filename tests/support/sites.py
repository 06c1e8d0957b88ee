"""Sites built from dataclasses, without files: small, explicit, with sensible defaults."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface, ip_network

from vswitch.errors import Origin
from vswitch.model.site import (
    Adapter,
    BasicAcl,
    ExtendedAcl,
    Guest,
    GuestKind,
    Host,
    PhysicalNetwork,
    PhysicalPort,
    Service,
    Site,
    Switch,
)
from vswitch.model.types import (
    TCP,
    UDP,
    Action,
    AnyAddress,
    BasicAction,
    Direction,
    Network,
    PortRange,
    Side,
    SwitchType,
    Vlan,
    VlanMode,
    normalise_mac,
)

LAYOUT, POLICY = "layout.yaml", "policy.yaml"


def access(vlan: int) -> Vlan:
    return Vlan(VlanMode.ACCESS, access=vlan)


def trunk(*allowed: int, native: int = 0) -> Vlan:
    return Vlan(VlanMode.TRUNK, native=native, allowed=tuple(sorted(allowed)))


def isolated(primary: int, secondary: int) -> Vlan:
    return Vlan(VlanMode.ISOLATED, primary=primary, secondary=secondary)


def community(primary: int, secondary: int) -> Vlan:
    return Vlan(VlanMode.COMMUNITY, primary=primary, secondary=secondary)


def promiscuous(primary: int, *secondaries: int) -> Vlan:
    return Vlan(VlanMode.PROMISCUOUS, primary=primary, secondaries=tuple(sorted(secondaries)))


def _network(text: str | None) -> Network | None:
    return None if text in (None, "ANY") else ip_network(text)


def _ports(ports: int | tuple[int, int] | None) -> PortRange | None:
    if ports is None:
        return None
    return PortRange(ports, ports) if isinstance(ports, int) else PortRange(*ports)


_PROTOCOLS = {"TCP": TCP, "UDP": UDP, "ICMP": 1, "ICMPv6": 58}


def extended(
    action: str,
    direction: str,
    weight: int,
    *,
    protocol: str | int | None = None,
    local: str | None = None,
    remote: str | None = None,
    local_port: int | tuple[int, int] | None = None,
    remote_port: int | tuple[int, int] | None = None,
    stateful: bool = False,
    timeout: int = 255,
    isolation_id: int = 0,
    name: str = "",
    line: int = 0,
) -> ExtendedAcl:
    """An extended entry; its name defaults to `Deny-Inbound-10`, its line to the weight."""
    return ExtendedAcl(
        name or f"{action}-{direction}-{weight}",
        Origin(POLICY, line or weight, 3),
        Action(action),
        Direction(direction),
        weight,
        _network(local),
        _network(remote),
        _ports(local_port),
        _ports(remote_port),
        _PROTOCOLS.get(protocol, protocol) if isinstance(protocol, str) else protocol,  # type: ignore[arg-type]
        stateful,
        timeout if stateful else 0,
        isolation_id,
    )


def basic(
    action: str,
    direction: str,
    *,
    local: str | None = None,
    remote: str | None = None,
    local_mac: str | None = None,
    remote_mac: str | None = None,
    name: str = "",
) -> BasicAcl:
    """A basic entry on one endpoint; `ANY` is a wildcard."""
    side = Side.LOCAL if local or local_mac else Side.REMOTE
    ip, mac = local or remote, local_mac or remote_mac
    address: Network | str | AnyAddress
    if ip:
        address = AnyAddress.IP if ip == "ANY" else ip_network(ip)
    else:
        assert mac
        address = AnyAddress.MAC if mac == "ANY" else normalise_mac(mac)
    return BasicAcl(
        name or f"{action}-{direction}-{side}-{ip or mac}",
        Origin(POLICY, 1, 3),
        BasicAction(action),
        Direction(direction),
        side,
        address,
    )


def service(text: str) -> Service:
    """`tcp/80` or `udp/53`."""
    protocol, port = text.split("/")
    return Service(_PROTOCOLS[protocol.upper()], int(port), "")


@dataclass
class SiteBuilder:
    """Adds machines one by one; `build` gives the Site. Numbers and MACs follow the order of calls."""

    networks: list[PhysicalNetwork] = field(default_factory=list)
    switches: dict[str, list[Switch]] = field(default_factory=dict)
    guests: dict[str, Guest] = field(default_factory=dict)
    _ports: dict[str, int] = field(default_factory=dict)
    _macs: int = 0

    def _number(self, host: str) -> int:
        self._ports[host] = self._ports.get(host, 0) + 1
        return self._ports[host]

    def _mac(self) -> str:
        self._macs += 1
        return normalise_mac(f"00155d{self._macs:06x}")

    def _add(self, guest: Guest) -> None:
        self.guests[guest.name] = guest

    def network(self, name: str, *vlans: int) -> SiteBuilder:
        self.networks.append(PhysicalNetwork(name, Origin(LAYOUT, 2, 1), vlans))
        return self

    def switch(self, name: str, *, network: str = "", host: str = "hv01", **fields: object) -> SiteBuilder:
        """An External switch when it has a network, else a Private one."""
        here = self.switches.setdefault(host, [])
        kind = SwitchType.EXTERNAL if network else SwitchType.PRIVATE
        switch = Switch(
            host,
            name,
            kind,
            Origin(LAYOUT, 3, 1),
            f"br{len(here)}",
            sum(map(len, self.switches.values())) + 1,
            network,
            self._number(host) if network else 0,
        )
        here.append(replace(switch, **fields))  # type: ignore[arg-type]
        return self

    def vm(
        self,
        name: str,
        addresses: str = "",
        *,
        switch: str = "vs",
        host: str = "hv01",
        vlan: Vlan | None = None,
        services: Sequence[str] = (),
        gateways: Sequence[str] = (),
        routes: Sequence[tuple[str, str]] = (),
        forwarding: bool = False,
        rules: Iterable[ExtendedAcl] = (),
        acls: Iterable[BasicAcl] = (),
        tagged: dict[int, str] | None = None,
        **fields: object,
    ) -> SiteBuilder:
        """A VM with one adapter; `addresses` separated by blanks; `tagged` by VLAN. See `adapter`."""
        self._add(
            Guest(
                name,
                GuestKind.VM,
                Origin(LAYOUT, 10 + len(self.guests), 5),
                host,
                services=tuple(service(text) for text in services),
                gateways=tuple(gateways),
                routes=tuple((ip_network(prefix), hop) for prefix, hop in routes),
                forwarding=forwarding,
            )
        )
        return self.adapter(
            name, addresses, switch=switch, vlan=vlan, rules=rules, acls=acls, tagged=tagged, **fields
        )

    def adapter(
        self,
        guest: str,
        addresses: str = "",
        *,
        switch: str = "vs",
        vlan: Vlan | None = None,
        rules: Iterable[ExtendedAcl] = (),
        acls: Iterable[BasicAcl] = (),
        tagged: dict[int, str] | None = None,
        **fields: object,
    ) -> SiteBuilder:
        """One more adapter of a VM."""
        old = self.guests[guest]
        count = len(old.adapters)
        adapter = Adapter(
            guest,
            "Network Adapter" if not count else f"Network Adapter {count + 1}",
            old.host,
            switch,
            self._mac(),
            self._number(old.host),
            f"eth{count}",
            old.origin,
            vlan=vlan or Vlan(),
            addresses=tuple(ip_interface(text) for text in addresses.split()),
            tagged_addresses=tuple(
                (tag, tuple(ip_interface(text) for text in texts.split()))
                for tag, texts in sorted((tagged or {}).items())
            ),
            acls=tuple(acls),
            extended_acls=tuple(rules),
        )
        changed = replace(adapter, **fields)  # type: ignore[arg-type]
        self._add(replace(old, adapters=(*old.adapters, changed)))
        return self

    def client(
        self,
        name: str,
        addresses: str,
        *,
        network: str = "lan",
        vlan: int = 0,
        services: Sequence[str] = (),
        gateways: Sequence[str] = (),
    ) -> SiteBuilder:
        """A machine on an access port of the physical network."""
        port = PhysicalPort(
            name, network, vlan, self._mac(), "eth0", tuple(ip_interface(text) for text in addresses.split())
        )
        self._add(
            Guest(
                name,
                GuestKind.CLIENT,
                Origin(LAYOUT, 10 + len(self.guests), 5),
                ports=(port,),
                services=tuple(service(text) for text in services),
                gateways=tuple(gateways),
            )
        )
        return self

    def gateway(self, name: str, addresses: dict[int, str], *, network: str = "lan") -> SiteBuilder:
        """The router of a physical network: addresses by VLAN."""
        ports = tuple(
            PhysicalPort(
                name,
                network,
                vlan,
                self._mac(),
                f"eth{index}",
                tuple(ip_interface(text) for text in texts.split()),
            )
            for index, (vlan, texts) in enumerate(sorted(addresses.items()))
        )
        self._add(Guest(name, GuestKind.GATEWAY, Origin(LAYOUT, 2, 1), ports=ports, forwarding=True))
        return self

    def build(self) -> Site:
        hosts = tuple(
            Host(name, Origin(LAYOUT, 3, 1), tuple(switches)) for name, switches in self.switches.items()
        )
        return Site("test", tuple(self.networks), hosts, tuple(self.guests.values()))


def one_switch(**vms: str) -> SiteBuilder:
    """A private switch `vs` with VMs by name and addresses."""
    builder = SiteBuilder().switch("vs")
    for name, addresses in vms.items():
        builder.vm(name, addresses)
    return builder


def with_acls(
    site: Site, guest: str, *, rules: Iterable[ExtendedAcl] = (), acls: Iterable[BasicAcl] = ()
) -> Site:
    """The same site with other ACLs on a guest's (first) adapter."""
    guests = []
    for old in site.guests:
        if old.name == guest:
            first = replace(old.adapters[0], extended_acls=tuple(rules), acls=tuple(acls))
            guests.append(replace(old, adapters=(first, *old.adapters[1:])))
        else:
            guests.append(old)
    return replace(site, guests=tuple(guests))


def rules_of(adapter: Adapter) -> tuple[ExtendedAcl | BasicAcl, ...]:
    """An adapter's rules, extended ones first."""
    return (*adapter.extended_acls, *adapter.acls)
