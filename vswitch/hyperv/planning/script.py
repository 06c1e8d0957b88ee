"""A policy as a plain PowerShell script, for those who want to read it or run it themselves.

All names and values stand in single-quoted literals; nothing in them is ever evaluated, and what could
end a line or drive a terminal is spelled by its number. The script
adds what is missing and removes nothing, so running it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from vswitch.acl_entries import ANY, ANY_MAC, BasicEntry, Entry, ExtendedEntry, sort_key
from vswitch.hyperv.planning.desired import PolicyRule, wanted_entries
from vswitch.model.site import Adapter, Site

__all__ = ["literal", "powershell_script"]

# PowerShell takes all of these for a single quote.
_QUOTES = "'\u2018\u2019\u201a\u201b"

_HEAD = """\
# Port ACLs of {policies} for the Hyper-V host {host}.
# Run it on that host as a member of Hyper-V Administrators. It adds the entries that are missing,
# removes none, and stops at the first error. What it adds is not in vswitch's record of its own
# entries: `vswitch hyperv apply --adopt` takes them over.
$ErrorActionPreference = 'Stop'

function Find-Adapter {{
    param([string] $VMName, [string] $Name, [string] $MacAddress)
    if ($VMName -eq '') {{
        $found = @(Get-VMNetworkAdapter -ManagementOS | Where-Object {{ $_.Name -ceq $Name }})
    }} else {{
        $found = @(Get-VMNetworkAdapter -VMName '*' | Where-Object {{
            $_.VMName -ceq $VMName -and $_.Name -ceq $Name
        }})
    }}
    if ($found.Count -gt 1 -and $MacAddress -ne '') {{
        $found = @($found | Where-Object {{ $_.MacAddress -eq $MacAddress }})
    }}
    if ($found.Count -ne 1) {{
        throw "there are $($found.Count) adapters '$Name' of '$VMName'"
    }}
    return $found[0]
}}

function Add-Extended {{
    param($Adapter, [hashtable] $Entry)
    $there = @(Get-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $Adapter | Where-Object {{
        $_.Direction.ToString() -eq $Entry['Direction'] -and $_.Weight -eq $Entry['Weight']
    }})
    foreach ($acl in $there) {{
        foreach ($name in $Entry.Keys) {{
            if ([string] $acl.$name -ne [string] $Entry[$name]) {{
                throw "weight $($Entry['Weight']) $($Entry['Direction']) on '$($Adapter.Name)' is taken"
            }}
        }}
    }}
    if ($there.Count -eq 0) {{
        Add-VMNetworkAdapterExtendedAcl -VMNetworkAdapter $Adapter @Entry
    }}
}}

function Add-Basic {{
    param($Adapter, [hashtable] $Entry, [string] $Property, [string] $Address)
    $there = @(Get-VMNetworkAdapterAcl -VMNetworkAdapter $Adapter | Where-Object {{
        $_.Direction.ToString() -eq $Entry['Direction'] -and
        $_.Action.ToString() -eq $Entry['Action'] -and
        $_.$Property -eq $Address
    }})
    if ($there.Count -eq 0) {{
        Add-VMNetworkAdapterAcl -VMNetworkAdapter $Adapter @Entry
    }}
}}
"""


def literal(text: str) -> str:
    """`text` as a PowerShell literal: in single quotes, each quote doubled. One line, no expansion.

    Where a character cannot be printed it is an expression of literals: `('a' + [char]10 + 'b')`.
    """
    parts: list[str] = []
    for printable, group in groupby(text, str.isprintable):
        if printable:
            doubled = (each * 2 if each in _QUOTES else each for each in group)
            parts.append(f"'{''.join(doubled)}'")
        else:
            units = "".join(group).encode("utf-16-be", "surrogatepass")
            parts += [f"[char]{units[at] << 8 | units[at + 1]}" for at in range(0, len(units), 2)]
    if not parts or parts[0].startswith("["):
        parts.insert(0, "''")  # a sum is text if it begins with text
    return parts[0] if len(parts) == 1 else f"({' + '.join(parts)})"


def powershell_script(site: Site, host: str) -> str:
    """The script for one host of a site. Save it as UTF-8 with a byte order mark (Windows PowerShell 5.1)."""
    policies = ", ".join(site.files[1:]) or "an empty policy"
    lines = [_HEAD.format(policies=_one_line(policies), host=_one_line(host))]
    for adapter in site.adapters:
        if adapter.host == host and (adapter.acls or adapter.extended_acls):
            lines += _adapter(adapter)
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _adapter(adapter: Adapter) -> Iterable[str]:
    guest = "" if adapter.is_management_os else adapter.guest
    mac = adapter.mac.replace("-", "")
    yield (
        f"$adapter = Find-Adapter -VMName {literal(guest)} -Name {literal(adapter.name)}"
        f" -MacAddress {literal(mac)}"
    )
    entries: Mapping[Entry, PolicyRule] = wanted_entries(adapter.extended_acls, adapter.acls)
    for entry in sorted(entries, key=sort_key):
        rule = entries[entry]
        yield f"# {_one_line(rule.name)} ({_one_line(str(rule.origin))})"
        yield _extended(entry) if isinstance(entry, ExtendedEntry) else _basic(entry)
    yield ""


def _extended(entry: ExtendedEntry) -> str:
    parts = [
        ("Action", literal(entry.action)),
        ("Direction", literal(entry.direction)),
        ("Weight", str(entry.weight)),
    ]
    for name, value in (
        ("LocalIPAddress", entry.local),
        ("RemoteIPAddress", entry.remote),
        ("LocalPort", entry.local_port),
        ("RemotePort", entry.remote_port),
        ("Protocol", entry.protocol),
    ):
        if value != ANY:
            parts.append((name, literal(value)))
    if entry.stateful:
        parts += [("Stateful", "$true"), ("IdleSessionTimeout", str(entry.timeout))]
    if entry.isolation:
        parts.append(("IsolationID", str(entry.isolation)))
    return f"Add-Extended -Adapter $adapter -Entry {_table(parts)}"


def _basic(entry: BasicEntry) -> str:
    address = ANY if entry.address == ANY_MAC else entry.address
    parameter = f"{entry.side}{'Mac' if entry.is_mac else 'IP'}Address"
    parts = [
        ("Action", literal(entry.action)),
        ("Direction", literal(entry.direction)),
        (parameter, literal(address)),
    ]
    return (
        f"Add-Basic -Adapter $adapter -Entry {_table(parts)}"
        f" -Property {literal(f'{entry.side}Address')} -Address {literal(address)}"
    )


def _table(parts: Iterable[tuple[str, str]]) -> str:
    return f"@{{ {'; '.join(f'{name} = {value}' for name, value in parts)} }}"
