"""Errors of WinRM, TLS and authentication as one sentence with the host and what to do.

`winrm_problem` reads what pywinrm and the libraries below it raise; `hyperv_problem` (refusals.py)
reads the `error` of a document that the PowerShell module returned. Fault codes are those of
wsmerror.h (hyper-v-facts §7).
"""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import TypeVar

import requests
import urllib3.exceptions
from winrm.exceptions import (
    InvalidCredentialsError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)

from vswitch.hyperv.winrm.causes import disbelief
from vswitch.hyperv.winrm.credentials import Credentials
from vswitch.hyperv.winrm.guard import Unsealed
from vswitch.hyperv.winrm.interface import HostCause, OutcomeUnknown, WinrmError
from vswitch.hyperv.winrm.refusals import hyperv_problem
from vswitch.hyperv.winrm.used_up import chain, resources_problem
from vswitch.model.problems import listing, shorten
from vswitch.wording import counted

__all__ = [
    "HostCause",
    "OutcomeUnknown",
    "WinrmError",
    "hyperv_problem",
    "is_broken",
    "is_shell_gone",
    "resources_problem",
    "script_problem",
    "timeout_problem",
    "winrm_problem",
]


# --- WinRM ---------------------------------------------------------------------------------------

_UNEXPECTED_SELECTORS = 2150858843
_ACCESS_DENIED = frozenset({5, 2147942405})
_REMOTE_SHELLS_OFF = 2150859180
_QUOTAS = {
    2150859173: ("shells", "MaxShellsPerUser"),
    2150859236: ("shells", "MaxShellsPerUser"),
    2150859238: ("shells", "MaxShellsPerUser"),
    2150859179: ("users with shells", "MaxConcurrentUsers"),
    2150859237: ("users with shells", "MaxConcurrentUsers"),
    2150859174: ("operations", "MaxConcurrentOperationsPerUser"),
    2150859240: ("operations", "MaxConcurrentOperationsPerUser"),
    2150859239: ("operations", "MaxConcurrentOperationsPerUser"),
    2150859241: ("processes in one shell", "MaxProcessesPerShell"),
    2150859175: ("resources of this user", "MaxConcurrentOperationsPerUser"),
    2150859176: ("resources of the service", "MaxConcurrentOperations"),
}
_RIGHTS = (
    "make the user a member of the host's local groups Remote Management Users and Hyper-V Administrators; "
    "local accounts other than Administrator may also need LocalAccountTokenFilterPolicy = 1"
)
X = TypeVar("X", bound=BaseException)

_BROKEN: tuple[type[Exception], ...] = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    http.client.RemoteDisconnected,
    http.client.IncompleteRead,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)
# ssl.SSLCertVerificationError.verify_code (X509_V_ERR_...)
_UNTRUSTED = frozenset({2, 18, 19, 20, 21, 27})
_EXPIRED, _NOT_YET = 10, 9
_WRONG_NAME = frozenset({62, 64})


def _first(error: BaseException, *kinds: type[X]) -> X | None:
    return next((item for item in chain(error) if isinstance(item, kinds)), None)


def is_broken(error: BaseException, *, established: bool) -> bool:
    """Whether a connection that had been made broke down, so that a new one may help.

    `established` says that the host had accepted the credentials before. Then a 400 or 401 also
    counts: what a new connection gets that carries a message encrypted for the old one.
    """
    if isinstance(error, WSManFaultError | WinRMOperationTimeoutError):
        return False
    if isinstance(error, WinRMTransportError):
        return established and error.code in (400, 401)
    if isinstance(error, InvalidCredentialsError):
        return established
    if isinstance(error, Unsealed):
        # What a connection gets that does not have our keys any more. Nothing is believed by trying again.
        return established and error.empty and error.status in (400, 401)
    if _first(error, ssl.SSLCertVerificationError, requests.exceptions.TooManyRedirects):
        return False
    if established:
        return isinstance(error, OSError | urllib3.exceptions.HTTPError) or _is_authentication(error)
    return _first(error, *_BROKEN) is not None


def is_shell_gone(error: BaseException) -> bool:
    """Whether the host says that it has no such shell (any more)."""
    return isinstance(error, WSManFaultError) and error.wsman_fault_code == _UNEXPECTED_SELECTORS


def _is_authentication(error: BaseException) -> bool:
    module = type(error).__module__.partition(".")[0]
    return (
        module in ("requests_credssp", "spnego", "requests_kerberos") or "kerberos" in type(error).__module__
    )


def winrm_problem(
    error: BaseException,
    *,
    host: str,
    address: str,
    port: int,
    https: bool,
    method: str,
    credentials: Credentials,
    offered: tuple[str, ...] | None = None,
) -> WinrmError:
    """What an error of pywinrm (or below) means.

    `method` is the authentication asked for, `offered` what the host named when asked without
    credentials (None: not known). No password gets into the result.
    """
    place = f"{address}:{port}"
    user = credentials.username or "the current user"

    def problem(cause: HostCause, message: str, hint: str) -> WinrmError:
        return WinrmError(message, host=host, cause=cause, hint=hint)

    def quoted(words: str | BaseException) -> str:
        # Only others' words are searched for the password: in our own, a mask would give it away.
        return shorten(credentials.hide_in(" ".join(str(words).split())), 200)[1:-1]

    if isinstance(error, Unsealed) and error.empty and error.status == 401:
        return problem(*_rejected(user, method, offered, https, ""))
    if (unbelieved := disbelief(error, place)) is not None:
        if isinstance(error, Unsealed) and error.empty and (known := _STATUS.get(error.status)) is not None:
            cause, message, hint = known
            return problem(
                cause, f"{message} (HTTP {error.status}, not encrypted)", f"{hint}; {unbelieved[2]}"
            )
        return problem(*unbelieved)
    if isinstance(error, WSManFaultError):
        return problem(*_fault(error, user, quoted(error.reason)))
    if isinstance(error, WinRMTransportError):
        return problem(*_status(error.code))
    if isinstance(error, WinRMOperationTimeoutError):
        return problem(
            HostCause.TIMEOUT,
            "WinRM did not finish a request in time",
            "the host may be overloaded; try again",
        )
    if (certificate := _first(error, ssl.SSLCertVerificationError)) is not None:
        return problem(HostCause.TLS, *_certificate(certificate, address))
    if _first(error, requests.exceptions.TooManyRedirects) is not None:
        return problem(
            HostCause.LISTENER,
            f"{place} answers with a redirect, which is not followed",
            "check `address` and `port`: another web server or a proxy answers there",
        )
    text = " ".join(str(item) for item in chain(error))
    if "not installed" in text and "requested auth method" in text.replace("requests auth", "requested auth"):
        return problem(
            HostCause.PACKAGE,
            f"{method} authentication needs a package that is not installed here",
            f"install it: pip install 'vswitch[{method}]'"
            + ("; or log on another way: -a ntlm -u 'DOMAIN\\user'" if method == "kerberos" else ""),
        )
    if isinstance(error, PermissionError | InvalidCredentialsError) or _is_authentication(error):
        return problem(*_rejected(user, method, offered, https, quoted(text)))
    if (tls := _first(error, ssl.SSLError)) is not None or isinstance(error, requests.exceptions.SSLError):
        return problem(HostCause.TLS, *_handshake(quoted(tls or error), place))
    if _first(error, socket.gaierror) is not None:
        return problem(
            HostCause.NAME,
            f"the name {address} is not known",
            "check the spelling, or write the host's `address` into the inventory",
        )
    if _first(error, ConnectionRefusedError) is not None:
        other = "HTTP on 5985" if https else "HTTPS on 5986"
        return problem(
            HostCause.REFUSED,
            f"nothing listens for WinRM at {place}",
            f"run `Enable-PSRemoting` on the host, or use its other listener ({other}: `https`, `port`)",
        )
    if _first(error, requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError) is not None:
        return problem(
            HostCause.UNREACHABLE,
            f"{place} does not answer",
            "check that the host is up and that a firewall lets WinRM through from here",
        )
    if _first(error, requests.exceptions.Timeout, TimeoutError) is not None:
        return problem(
            HostCause.TIMEOUT,
            f"{place} accepted the connection and then did not answer in time",
            "the host may be overloaded; try again, or raise `silence_timeout`",
        )
    if _first(error, *_BROKEN) is not None:
        hint = "check that this port speaks HTTPS" if https else "check that this port speaks HTTP, not HTTPS"
        return problem(HostCause.BROKEN, f"{place} broke off the connection", f"try again; {hint}")
    http_error = _first(error, http.client.HTTPException) is not None
    if isinstance(error, OSError | urllib3.exceptions.HTTPError) and not http_error:
        said = next(
            (item.strerror for item in chain(error) if isinstance(item, OSError) and item.strerror), error
        )
        return problem(
            HostCause.UNREACHABLE,
            f"{place} cannot be reached: {quoted(said)}",
            "check the address and the route",
        )
    return problem(
        HostCause.ANSWER,
        f"{place} answered with something that is not WinRM ({type(error).__name__})",
        "check the port, and that no other web server or proxy answers there",
    )


def _fault(error: WSManFaultError, user: str, reason: str) -> tuple[HostCause, str, str]:
    code = error.wsman_fault_code
    if code in _ACCESS_DENIED:
        return HostCause.RIGHT, f"{user} is known but has no right to use WinRM there", _RIGHTS
    if code in _QUOTAS:
        what, setting = _QUOTAS[code]
        return (
            HostCause.QUOTA,
            f"WinRM's quota of {what} is used up",
            f"close what {user} has open there, wait until idle shells end, or raise {setting}",
        )
    if code == _REMOTE_SHELLS_OFF:
        return (
            HostCause.LISTENER,
            "remote shells are turned off",
            'run `winrm set winrm/config/winrs @{AllowRemoteShellAccess="true"}` on the host',
        )
    number = f" (fault {code})" if code is not None else ""
    return (
        HostCause.ANSWER,
        f"WinRM refused a request{number}: {reason}",
        "see the event log Microsoft-Windows-WinRM/Operational on the host",
    )


_UNAVAILABLE = (
    HostCause.LISTENER,
    "the WinRM service is not available",
    "check that the service WinRM runs on the host, and that no proxy stands in between",
)
_NOT_WINRM = (
    HostCause.LISTENER,
    "a web server answers there, but not WinRM",
    "check `port`; WinRM's path is /wsman",
)
_STATUS = {
    404: _NOT_WINRM,
    405: _NOT_WINRM,
    413: (
        HostCause.SIZE,
        "a message is larger than WinRM accepts there",
        "set MaxEnvelopeSizekb to 150 or more on the host",
    ),
    400: (
        HostCause.BROKEN,
        "the host could not make sense of a message",
        "something between here and the host may cut idle connections; try again, or use HTTPS",
    ),
    **dict.fromkeys((502, 503, 504), _UNAVAILABLE),
}


def _status(code: int) -> tuple[HostCause, str, str]:
    if code in _STATUS:
        cause, message, hint = _STATUS[code]
        return cause, f"{message} (HTTP {code})", hint
    return (
        HostCause.ANSWER,
        f"the host answered with HTTP status {code}",
        "check that `port` is a WinRM listener",
    )


def _rejected(
    user: str, method: str, offered: tuple[str, ...] | None, https: bool, text: str
) -> tuple[HostCause, str, str]:
    wanted = {"basic": ("basic",), "ntlm": ("ntlm", "negotiate"), "credssp": ("credssp",)}.get(method)
    if method == "kerberos":
        wanted = ("kerberos", "negotiate")
    if offered is not None and wanted and not {name.lower() for name in offered} & set(wanted):
        return (
            HostCause.METHOD,
            f"the host does not offer {method} authentication, only {listing(offered)}",
            "turn it on there (WSMan:\\localhost\\Service\\Auth), or choose another `authentication`"
            if https
            else "nothing proves who said so, over HTTP: look on the host itself, at"
            " WSMan:\\localhost\\Service\\Auth, before you choose a weaker `authentication`",
        )
    if method == "kerberos":
        return (
            HostCause.CREDENTIALS,
            f"Kerberos authentication as {user} failed: {text}",
            "get a ticket with `kinit`, and use the host's full DNS name (not an IP address)",
        )
    if method == "certificate":
        return (
            HostCause.CREDENTIALS,
            "the host does not accept the client certificate",
            "check WSMan:\\localhost\\ClientCertificate: subject, issuer and the mapped local account",
        )
    local = "; Basic knows local accounts only" if method == "basic" else ""
    return (
        HostCause.CREDENTIALS,
        f"the user name or password of {user} is wrong, or the account may not log on",
        f"check both, and whether the account is locked or expired{local}; if they are right: {_RIGHTS}",
    )


def _certificate(error: ssl.SSLCertVerificationError, address: str) -> tuple[str, str]:
    code = error.verify_code
    if code in _WRONG_NAME:
        return (
            f"the host's certificate is not made out for {address}",
            "write the name that is in the certificate as `address`",
        )
    if code == _EXPIRED:
        return "the host's certificate has expired", "renew it on the host"
    if code == _NOT_YET:
        return "the host's certificate is not valid yet", "check the clocks of both machines"
    if code in _UNTRUSTED:
        return (
            "the host's certificate is not issued by an authority that is trusted here",
            "name the authority's certificate as `ca_file`, or add it to this machine's trusted ones",
        )
    return f"the host's certificate is not accepted: {error.verify_message}", "see `ca_file`"


def _handshake(text: str, place: str) -> tuple[str, str]:
    lower = text.lower()
    if "wrong_version_number" in lower or "record layer" in lower or "http_request" in lower:
        return f"{place} does not speak TLS", "use its HTTPS listener (5986), or `https: Off` with encryption"
    if "private key is encrypted" in lower:
        return (
            "the key of the client certificate is encrypted",
            "store it without passphrase, readable by you only",
        )
    if "certificate required" in lower or "handshake failure" in lower or "unknown ca" in lower:
        return (
            f"{place} refused the TLS connection: {text}",
            "check the client certificate",
        )
    return f"TLS with {place} failed: {text}", "check `port`, `https` and `ca_file`"


def timeout_problem(host: str, seconds: float) -> WinrmError:
    """The whole run took longer than the caller allows."""
    return WinrmError(
        f"no answer within {counted(seconds, 'second')}",
        host=host,
        cause=HostCause.TIMEOUT,
        hint="the host may be overloaded; try again, or raise `timeout`",
    )


def script_problem(host: str, exit_code: int, stderr: bytes) -> WinrmError:
    """PowerShell ended without an answer."""
    said = stderr.decode("utf-8", "replace").strip()
    lower = said.lower()
    first = shorten(next((line.strip() for line in said.splitlines() if line.strip()), ""), 200)[1:-1]
    if "language mode" in lower or "languagemode" in lower:
        return WinrmError(
            "PowerShell runs in constrained language mode there",
            host=host,
            cause=HostCause.SCRIPT,
            hint="allow the module in the application control policy, or use the export script by hand",
        )
    if "not recognized as an internal or external command" in lower:
        return WinrmError(
            "powershell.exe is not found there",
            host=host,
            cause=HostCause.SCRIPT,
            hint="check PATH on the host",
        )
    if "command line is too long" in lower:
        return WinrmError(
            "the host takes shorter command lines than Windows documents",
            host=host,
            cause=HostCause.SIZE,
            hint="look for a command processor other than cmd.exe (ComSpec) on the host",
        )
    told = f": {first}" if first else ""
    return WinrmError(
        f"PowerShell ended with status {exit_code} and without an answer{told}",
        host=host,
        cause=HostCause.SCRIPT,
        hint="run `powershell.exe -NoProfile -Command $PSVersionTable` on the host to see whether it works",
    )
