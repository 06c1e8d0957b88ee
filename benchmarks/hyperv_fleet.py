"""What many Hyper-V hosts side by side cost, with the whole of WinRM in between.

Each host is the modelled host of the tests behind their WinRM endpoint: real sockets, NTLM with
message encryption, the shipped module. Endpoints and client share one process and so its cores,
which real hosts do not; that counts against the fleet.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

from tests.support.modelled_host.host import HypervHost
from tests.support.modelled_host.states import sample_state
from tests.support.winrm.endpoint import Handler, ShellOutput, WinrmEndpoint, host_handler
from vswitch.hyperv.applying.answers import export_of
from vswitch.hyperv.fleet.fleet_run import Account, account_of, run_fleet
from vswitch.hyperv.fleet.inventory import InventoryHost
from vswitch.hyperv.winrm.connection import Authentication, HostConnection
from vswitch.hyperv.winrm.credentials import Credentials, Secret
from vswitch.hyperv.winrm.transport import PywinrmTransport

#: What a host takes by itself to start PowerShell, load Hyper-V's module and read some VMs.
HOST_SECONDS = 1.5
CREDENTIALS = Credentials("admin", Secret("S3cret-pass"))


def _delayed(number: int) -> Handler:
    state = sample_state()
    state["computer"] = f"HV{number:02}"
    at_once = host_handler(HypervHost(state))

    def handle(stdin: bytes) -> bytes | ShellOutput:
        time.sleep(HOST_SECONDS)
        return at_once(stdin)

    return handle


def export(hosts: int, at_a_time: int = 16) -> float:
    """Seconds to read the state of so many hosts, one round trip each."""
    with ExitStack() as stack:
        endpoints = [stack.enter_context(WinrmEndpoint(_delayed(number))) for number in range(hosts)]
        links = {
            f"hv{number:02}": HostConnection(
                name=f"hv{number:02}",
                address=endpoint.address,
                port=endpoint.port,
                https=False,
                authentication=Authentication.NTLM,
                username=CREDENTIALS.username,
            )
            for number, endpoint in enumerate(endpoints)
        }

        proven: set[Account] = set()

        def read(host: InventoryHost) -> str:
            accepted = partial(proven.add, account_of(host) or ("", ""))
            transport = PywinrmTransport(host.connection, credentials=CREDENTIALS, accepted=accepted)
            return export_of(transport, host.name).computer

        began = time.perf_counter()
        fleet = [InventoryHost(name, link) for name, link in links.items()]
        result = run_fleet(fleet, read, limit=at_a_time, proven=proven)
        seconds = time.perf_counter() - began
    read_from = [outcome.value for outcome in result.outcomes]
    if not result.ok or read_from != [f"HV{number:02}" for number in range(hosts)]:
        raise RuntimeError(result.summary(str))
    return seconds
