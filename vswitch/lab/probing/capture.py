"""Captures at an interface of a namespace, without a thread and without a process.

The kernel keeps the frames in the socket's buffer from the moment the capture opens; they are read
when somebody asks for them. A filter in the kernel keeps other traffic out of that buffer.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from vswitch.errors import EnvironmentError_, LabError
from vswitch.lab.isolation.netns import in_netns
from vswitch.lab.probing.captured_frames import (
    ARP,
    IPV4,
    IPV6,
    TAGS,
    Address,
    CapturedFrame,
    Seen,
    parse_frame,
)
from vswitch.model.types import ICMPV4, ICMPV6

__all__ = ["Capture", "Match"]

BUFFER = 4 << 20  # bytes; what the kernel grants without privilege may be less
LONGEST = 70_000  # bytes of one frame, offloads included
ETH_P_ALL = 3
SO_ATTACH_FILTER, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 26, 33, 35  # asm-generic/socket.h
SOL_PACKET, PACKET_STATISTICS = 263, 6  # linux/if_packet.h


@dataclass(frozen=True, slots=True)
class Match:
    """Packets of one IP protocol between two addresses, either way.

    With a `port` (TCP and UDP) it is the source or the destination port. ARP or ICMP of the family
    always match too: they tell of neighbours and of errors.
    """

    one: Address
    other: Address
    protocol: int
    port: int | None = None

    def program(self) -> bytes:
        """The filter as a classic BPF program (an array of struct sock_filter)."""
        version = self.one.version
        icmp, ethertype = (ICMPV4, IPV4) if version == 4 else (ICMPV6, IPV6)
        protocol_at, source_at, destination_at = (23, 26, 30) if version == 4 else (20, 22, 38)
        code = _Program()
        code.load_half(12)
        for always in (*TAGS, *((ARP,) if version == 4 else ())):
            code.accept_if(always)
        code.go_on_if(ethertype, otherwise="reject")
        code.load_byte(protocol_at)
        code.accept_if(icmp)
        code.go_on_if(self.protocol, otherwise="reject")
        code.compare(source_at, self.one.packed, otherwise="backwards")
        code.compare(destination_at, self.other.packed, otherwise="reject")
        code.go_to("ports")
        code.label("backwards")
        code.compare(source_at, self.other.packed, otherwise="reject")
        code.compare(destination_at, self.one.packed, otherwise="reject")
        code.label("ports")
        if self.port is not None:
            code.index_header(version)
            code.load_half(14, indexed=True)
            code.accept_if(self.port)
            code.load_half(16, indexed=True)
            code.go_on_if(self.port, otherwise="reject")
        return code.assemble()


class _Program:
    """An assembler for the few BPF instructions a match needs; jumps go forwards to labels."""

    def __init__(self) -> None:
        self._code: list[tuple[int, str, str, int]] = []  # code, label if true, label if false, k
        self._labels: dict[str, int] = {}

    def load_half(self, offset: int, *, indexed: bool = False) -> None:
        """A 16-bit load from the frame, or from beyond the IP header with its length as index."""
        self._code.append((0x48 if indexed else 0x28, "", "", offset))

    def index_header(self, version: int) -> None:
        """Load the length of the IP header as index; that of IPv6 is fixed."""
        self._code.append((0xB1, "", "", 14) if version == 4 else (0x01, "", "", 40))

    def load_byte(self, offset: int) -> None:
        """An 8-bit load from the frame."""
        self._code.append((0x30, "", "", offset))

    def accept_if(self, value: int) -> None:
        """End and keep the frame if the loaded value is this one."""
        self._code.append((0x15, "accept", "", value))

    def go_on_if(self, value: int, *, otherwise: str) -> None:
        """Jump to `otherwise` unless the loaded value is this one."""
        self._code.append((0x15, "", otherwise, value))

    def compare(self, offset: int, data: bytes, *, otherwise: str) -> None:
        """Jump to `otherwise` unless the frame has `data` (whole 32-bit words) at `offset`."""
        for at in range(0, len(data), 4):
            self._code.append((0x20, "", "", offset + at))
            self.go_on_if(int.from_bytes(data[at : at + 4]), otherwise=otherwise)

    def go_to(self, label: str) -> None:
        """Jump."""
        self._code.append((0x05, label, "", 0))

    def label(self, name: str) -> None:
        """Name the next instruction."""
        self._labels[name] = len(self._code)

    def assemble(self) -> bytes:
        """The program, with `accept` (keep the whole frame) and `reject` at its end."""
        self.label("accept")
        self._code.append((0x06, "", "", 0x40000))
        self.label("reject")
        self._code.append((0x06, "", "", 0))
        return b"".join(self._instruction(at, *each) for at, each in enumerate(self._code))

    def _instruction(self, at: int, code: int, true: str, false: str, k: int) -> bytes:
        forward = [self._labels[label] - at - 1 if label else 0 for label in (true, false)]
        if code == 0x05:  # its distance is in k
            return struct.pack("=HBBI", code, 0, 0, forward[0])
        return struct.pack("=HBBI", code, *forward, k)


class Capture:
    """All frames in and out of an interface while the context lasts, or those of a match.

    `netns` is the path of the interface's namespace. Frames a namespace sends still have the
    checksums that are left to offload. Opening raises LabError where the namespace or the interface
    does not exist, EnvironmentError_ where capturing is not permitted.
    """

    def __init__(self, netns: str, interface: str, match: Match | None = None) -> None:
        self.netns, self.interface, self.match = netns, interface, match
        self.lost = 0  # frames that met a full buffer, as of the last look
        self._frames: list[CapturedFrame] = []
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        self._socket = in_netns(self.netns, self._open)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket:
            self.frames()
            # Closing waits until no processor delivers to the socket any more: a hundred times as
            # long as all the rest, and nobody needs to wait for it.
            threading.Thread(target=self._socket.close, daemon=True).start()
            self._socket = None

    def fileno(self) -> int:
        """The socket, for `select.poll`: readable once a frame was caught. Only while open."""
        return self._socket.fileno() if self._socket else -1

    def frames(self) -> tuple[CapturedFrame, ...]:
        """All frames caught so far, oldest first."""
        if self._socket:
            self._drain(self._socket)
        return tuple(self._frames)

    def _open(self) -> socket.socket:
        try:
            # Protocol 0 catches nothing yet: the filter comes first.
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        except PermissionError as error:
            raise EnvironmentError_(
                f"capturing at {self.interface} is not permitted",
                hint="It needs CAP_NET_RAW in the namespace: be root, or work inside the lab.",
            ) from error
        try:
            if self.match:
                program = self.match.program()
                buffer = ctypes.create_string_buffer(program, len(program))
                pointer = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
                sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            with contextlib.suppress(PermissionError):
                sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sock.bind((self.interface, ETH_P_ALL))
        except OSError as error:
            sock.close()
            if error.errno == errno.ENODEV:
                raise LabError(f"there is no interface {self.interface} to capture at") from error
            raise LabError(f"capturing at {self.interface} failed: {error.strerror}") from error
        return sock

    def _drain(self, sock: socket.socket) -> None:
        while True:
            try:
                raw, control, _, address = sock.recvmsg(LONGEST, 64)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # said once when the interface goes down
                    raise
                continue
            stamp = next((data for _, kind, data in control if kind == SO_TIMESTAMPNS), b"")
            seconds, nanoseconds = struct.unpack("ll", stamp) if stamp else (time.time(), 0)
            self._frames.append(parse_frame(raw, seconds + nanoseconds / 1e9, Seen(address[2])))
        # The kernel resets its count whenever it tells it.
        self.lost += struct.unpack("=II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
