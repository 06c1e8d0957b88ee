"""The sentences for answers of a host that are not believed."""

from __future__ import annotations

from vswitch.hyperv.winrm.guard import Compressed, TooLarge, Unsealed
from vswitch.hyperv.winrm.interface import HostCause
from vswitch.hyperv.winrm.sealed import Foreign

__all__ = ["disbelief"]


def _size(error: TooLarge) -> str:
    if error.unit != "bytes":
        return f"{error.limit:,} {error.unit}"
    return f"{error.limit >> 20} MiB" if error.limit >= 1 << 20 else f"{error.limit >> 10} KiB"


def disbelief(error: BaseException, place: str) -> tuple[HostCause, str, str] | None:
    """Cause, sentence and remedy for an answer of `place` that was not taken; None for other errors."""
    if isinstance(error, TooLarge):
        return (
            HostCause.SIZE,
            f"{place} sends more than the {_size(error)} that are taken of it, and was cut off",
            "see what answers there: a host that works sends far less",
        )
    if isinstance(error, Compressed):
        return (
            HostCause.ANSWER,
            f"{place} compresses its answer, which it was asked not to do",
            "check the port, and that no other web server or proxy answers there",
        )
    if isinstance(error, Foreign):
        return (
            HostCause.ANSWER,
            f"an answer of {place} is none to the question asked: {error.args[0]}",
            "nothing of it was believed; check that no proxy or other web server answers there",
        )
    if isinstance(error, Unsealed):
        if 300 <= error.status < 400:
            return (
                HostCause.LISTENER,
                f"{place} answers with a redirect, which is not followed",
                "check `address` and `port`: another web server or a proxy answers there",
            )
        why = error.why or "it is not encrypted"
        return (
            HostCause.UNSEALED,
            f"an answer of {place} (HTTP {error.status}) was not believed: {why}",
            "somebody between here and the host may have made it, or the host does not encrypt: look at who"
            " answers there, or use HTTPS (5986)",
        )
    return None
