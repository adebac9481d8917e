"""A person as everything behind the gate sees one: a name, a role, and how far the means goes that they came by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["viewer", "member", "admin"]
"""A viewer reads; a member also launches, and changes what is their own; an admin does everything."""
Scope = Literal["read", "write", "admin"]
"""How far a token goes; a session goes as far as its person's role."""

_REACH: dict[str, int] = {"viewer": 0, "read": 0, "member": 1, "write": 1, "admin": 2}
ROLES: tuple[Role, ...] = ("viewer", "member", "admin")
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks. The name never changes and is never given to somebody else, so that it serves as owner and as actor."""

    name: str
    role: Role
    scope: Scope = "admin"
    """What the means allows; never more than the role does."""
    means: str = "local"
    """By what they came in, for the audit log: ``local``, ``session 7``, ``token 3``."""
    id: int | None = None
    """None for the local person, who has no row."""

    @property
    def reach(self) -> int:
        """The lesser of role and scope: 0 reads, 1 writes, 2 administers."""
        return min(_REACH[self.role], _REACH[self.scope])

    @property
    def may_read(self) -> bool:
        return True

    @property
    def may_launch(self) -> bool:
        """Whether they may make something of their own."""
        return self.reach >= 1

    @property
    def is_admin(self) -> bool:
        return self.reach >= 2

    def may_change(self, owner: str | None) -> bool:
        """Whether they may change what belongs to `owner`; what belongs to nobody is the admins'."""
        return self.is_admin or (self.may_launch and owner == self.name)

    def may_grant(self, scope: Scope) -> bool:
        """Whether a token of this scope stays within what they may do themselves."""
        return _REACH[scope] <= self.reach


LOCAL = Person("user", "admin")
"""Whoever sits at this machine, where no password is asked for."""
