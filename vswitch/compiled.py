"""A policy as its switches hold it: the site and the flow programs made of it, handed on between processes.

The controller compiles a policy when it is applied. The lab's supervisor, which answers questions about it,
asks for the result, so that both go by one compilation. It travels as a pickle in a file in memory: from a
process of the lab to another of the same user, over a socket that nobody else can reach.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from vswitch.model.site import Site
from vswitch.pipeline import HostProgram

__all__ = ["CompiledPolicy"]


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """A site and the programs of its hosts, by the host's name. The programs' rules are those of the site."""

    site: Site
    programs: Mapping[str, HostProgram]

    def to_descriptor(self) -> int:
        """A file in memory with all of it, to be closed by whoever takes it. Raises OSError, MemoryError."""
        descriptor = os.memfd_create("vswitch-policy")
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                pickle.dump(self, file, protocol=pickle.HIGHEST_PROTOCOL)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @classmethod
    def from_file(cls, file: BinaryIO) -> CompiledPolicy:
        """What `to_descriptor` wrote. Raises ValueError for what another version of vswitch wrote."""
        file.seek(0)
        try:
            found = pickle.load(file)
        except Exception as error:  # whatever a changed class makes of it
            raise ValueError(f"not a compiled policy: {error!r}") from None
        if not isinstance(found, cls):
            raise ValueError("not a compiled policy")
        return found
