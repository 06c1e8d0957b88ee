"""How much files may hold once lists, ranges, groups and aliases are written out.

A text of a few lines can stand for more than any machine holds. So what it stands for is counted, and
refused, before it is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["MOST_ENTRIES", "MOST_GROUP_DEPTH", "MOST_VALUES", "Budget", "LayoutBudgets"]

#: Most ACL entries of all policies on all adapters; most members of all groups of a file, VLAN ids of a
#: layout's lists and listeners of its guests.
MOST_ENTRIES = 1_000_000
#: How deep groups may contain groups.
MOST_GROUP_DEPTH = 32
#: Most keys and values of one YAML document.
MOST_VALUES = 2_000_000


@dataclass(slots=True)
class Budget:
    """Counts what is made; once it is exceeded nothing more is."""

    most: int = MOST_ENTRIES
    used: int = 0
    exceeded: bool = False

    def fits(self, count: int) -> bool:
        """Whether `count` more may be made."""
        return not self.exceeded and self.used + count <= self.most

    def take(self, count: int) -> bool:
        """The same; they count as made then, and if they do not fit the budget is exceeded."""
        if not self.fits(count):
            self.exceeded = True
            return False
        self.used += count
        return True


@dataclass(slots=True)
class LayoutBudgets:
    """What one layout may hold of things that ranges stand for."""

    vlan_ids: Budget = field(default_factory=Budget)
    listeners: Budget = field(default_factory=Budget)
