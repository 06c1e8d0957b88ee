"""Requests that end: every wait and every answer of a host has a limit, whatever the host sends.

The limits are kept at the socket, below HTTP, TLS and authentication: a byte at a time, endless
headers or a body without end meet them as well. Not covered: what the Kerberos library asks its own
servers, for which krb5.conf has time limits.
"""

from __future__ import annotations

import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import Buffer
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context

__all__ = [
    "BEFORE_LOG_ON",
    "ONE_ANSWER",
    "Compressed",
    "Guard",
    "GuardError",
    "GuardedAdapter",
    "TimeIsUp",
    "TooLarge",
    "Unsealed",
    "is_sealed",
]

#: Bytes of one HTTP answer, its head included, of a host that has not accepted our credentials yet.
BEFORE_LOG_ON = 64 * 1024
#: The same once it has: it is asked for envelopes of at most 150 KB.
ONE_ANSWER = 1024 * 1024

_SCHEMES = ("negotiate", "kerberos", "ntlm", "credssp", "basic")
_CHALLENGE = re.compile(r"([A-Za-z]+)(?: [A-Za-z0-9+/=\"_]*)?")
_MOST_CHALLENGES = 8
_SEALED = re.compile(
    r'multipart/(?:x-multi-)?encrypted\s*;.*protocol="application/HTTP-[A-Za-z]+-session-encrypted"',
    re.IGNORECASE,
)
P = ParamSpec("P")
T = TypeVar("T")


class GuardError(Exception):
    """An answer was not waited for, or not taken."""


class TimeIsUp(GuardError):
    """The time limit of the whole has passed."""


class TooLarge(GuardError):
    """An answer is larger than `limit`, of bytes or of what `unit` says."""

    def __init__(self, limit: int, unit: str = "bytes") -> None:
        super().__init__(limit, unit)
        self.limit = limit
        self.unit = unit


class Compressed(GuardError):
    """An answer is compressed, though it was asked for as it is."""


class Unsealed(GuardError):
    """Without TLS, an answer came that the keys of the log-on do not vouch for: nothing of it is believed.

    `status` is its HTTP status; `empty` says that it has no body; `why` is for people, may be empty.
    """

    def __init__(self, status: int, *, empty: bool = False, why: str = "") -> None:
        super().__init__(status, why)
        self.status = status
        self.empty = empty
        self.why = why


@dataclass
class Guard:
    """The limits of one link to a host. Times are seconds; `deadline` is of time.monotonic().

    `connect` limits name, connection and TLS handshake together, `silence` the wait for the next
    bytes in either direction, `limit` the bytes of the answer to one request.
    """

    connect: float
    silence: float
    deadline: float = math.inf
    limit: int = BEFORE_LOG_ON
    received: int = 0

    def left(self, most: float) -> float:
        """How long the next wait may take, at most `most`. Raises TimeIsUp."""
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeIsUp
        return min(most, seconds)

    def wait(self, connection: socket.socket, step: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Do one step on a socket. Raises TimeIsUp, or TimeoutError after too long a silence."""
        connection.settimeout(self.left(self.silence))
        try:
            return step(*args, **options)
        except TimeoutError:
            self.left(self.silence)
            raise

    def count(self, size: int) -> int:
        """Take note of bytes that came. Raises TooLarge."""
        self.received += size
        if self.received > self.limit:
            raise TooLarge(self.limit)
        return size


#: Family, type, protocol, canonical name and address, as getaddrinfo has them.
Found = tuple[
    socket.AddressFamily,
    socket.SocketKind,
    int,
    str,
    tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes],
]


class _Plain(socket.socket):
    """A connection under a guard."""

    guard: Guard

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        return self.guard.count(self.guard.wait(self, super().recv_into, buffer, nbytes, flags))

    def send(self, data: Buffer, flags: int = 0) -> int:
        return self.guard.wait(self, super().send, data, flags)

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self.send(rest, flags) :]


class _Tls(ssl.SSLSocket):
    """The same over TLS; the handshake has the time-out that the socket has at that moment, as a whole."""

    guard: Guard

    def read(self, *args: Any) -> Any:  # bytes, or into a buffer their number
        found = self.guard.wait(self, super().read, *args)
        self.guard.count(found if isinstance(found, int) else len(found))
        return found

    def send(self, data: Buffer, flags: int = 0) -> int:
        return self.guard.wait(self, super().send, data, flags)


def _addresses(host: str, port: int, seconds: float) -> Sequence[Found]:
    """What getaddrinfo finds, which has no time limit of its own. Raises gaierror, TimeoutError."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name
    answer: SimpleQueue[Sequence[Found] | OSError | UnicodeError] = SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answer.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"looking up {host} timed out") from None
    if isinstance(found, UnicodeError):
        raise socket.gaierror(socket.EAI_NONAME, "not a name of a host")
    if isinstance(found, OSError):
        raise found
    return found


def _connected(plain: type[_Plain], host: str, port: int) -> socket.socket:
    """A connection to the first address that answers; its time-out is what is left of `connect`."""
    guard = plain.guard
    end = time.monotonic() + guard.left(guard.connect)
    found = _addresses(host, port, end - time.monotonic())
    problem: OSError = OSError("it has no address")
    for index, (family, kind, protocol, _, address) in enumerate(found):
        left = end - time.monotonic()
        if left <= 0:
            problem = TimeoutError("connecting timed out")
            break
        connection = plain(family, kind, protocol)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(left / (len(found) - index))
            connection.connect(address)
        except OSError as error:
            problem = error
            connection.close()
        else:
            connection.settimeout(max(end - time.monotonic(), 0.001))
            return connection
    raise problem


def _pools(guard: Guard) -> dict[str, type[HTTPConnectionPool]]:
    """Connection pools of urllib3 whose sockets are under `guard`."""
    plain = type("Plain", (_Plain,), {"guard": guard})

    def connect(connection: HTTPConnection) -> socket.socket:
        host = connection.host
        try:
            return _connected(plain, connection._dns_host.strip("[]"), connection.port)
        except socket.gaierror as error:
            raise NameResolutionError(host, connection, error) from error
        except TimeoutError as error:
            guard.left(guard.connect)
            raise ConnectTimeoutError(connection, f"connecting to {host} timed out") from error
        except OSError as error:
            raise NewConnectionError(connection, f"no connection: {error}") from error

    http = type("Http", (HTTPConnection,), {"_new_conn": connect})
    https = type("Https", (HTTPSConnection,), {"_new_conn": connect})
    return {
        "http": type("HttpPool", (HTTPConnectionPool,), {"ConnectionCls": http}),
        "https": type("HttpsPool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
    }


class GuardedAdapter(HTTPAdapter):
    """What sends each request of a link, those of authentication included, and looks at each answer.

    Compressed answers are refused. With `sealed` (no TLS), an answer is let through only if there is
    nothing in it to believe (an empty 401, or a 200 that ends the log-on), or if a sealed message was
    asked and the answer says that it is sealed too; whoever reads it has to unseal it. Besides what
    requests raises: GuardError.
    """

    def __init__(self, guard: Guard, *, sealed: bool, verify: bool) -> None:
        self._guard = guard
        self._is_sealed = sealed
        self._verify = verify
        super().__init__()

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **options: str | int
    ) -> None:
        """See requests.adapters.HTTPAdapter."""
        context = create_urllib3_context(cert_reqs=None if self._verify else ssl.CERT_NONE)
        context.sslsocket_class = type("Tls", (_Tls,), {"guard": self._guard})
        super().init_poolmanager(connections, maxsize, block, ssl_context=context, **options)
        self.poolmanager.pool_classes_by_scheme = _pools(self._guard)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        """See requests.adapters.HTTPAdapter."""
        request.headers["Accept-Encoding"] = "identity"
        self._guard.received = 0
        answer = super().send(request, stream, timeout, verify, cert, proxies)
        try:
            if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
                raise Compressed
            if challenges := answer.headers.get("WWW-Authenticate"):
                answer.headers["WWW-Authenticate"] = _challenges(challenges)
            if self._is_sealed:
                _check_sealed(request, answer)
        except BaseException:
            answer.raw.close()
            raise
        return answer


def _check_sealed(request: requests.PreparedRequest, answer: requests.Response) -> None:
    empty = not answer.content
    if is_sealed(request.headers):
        # A 401 is for the log-on, which is over: a connection that lost it is no use any more.
        believed = is_sealed(answer.headers) and answer.status_code != 401 and not empty
    else:
        # A 200 ends a log-on, if the keys say so too: its body is read by nobody.
        ends = answer.status_code == 200 and (empty or "Authorization" in request.headers)
        believed = ends or (answer.status_code == 401 and empty)
    if not believed or answer.is_redirect:
        raise Unsealed(answer.status_code, empty=empty)


def is_sealed(headers: Mapping[str, str | bytes]) -> bool:
    """Whether the head of a request or an answer says that its message is encrypted."""
    kind = headers.get("Content-Type") or ""
    return _SEALED.match(kind if isinstance(kind, str) else kind.decode("latin-1")) is not None


def _challenges(text: str) -> str:
    """The challenges in WWW-Authenticate that are well formed: those who read them take any for good."""
    found = (part.strip() for part in text.split(","))
    known = [
        part
        for part in found
        if (match := _CHALLENGE.fullmatch(part)) is not None and match[1].lower() in _SCHEMES
    ]
    return ", ".join(known[:_MOST_CHALLENGES])
