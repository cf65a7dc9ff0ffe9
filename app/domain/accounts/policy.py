"""What a role, a session and an API token may do. Every decision about access is made here.

    scope   what it permits                              roles that have it
    read    see everything that the role may see         viewer, member, admin
    run     submit, change, cancel and delete            member, admin
    admin   see users and the audit log, and with a      admin
            session change users

A session has every scope of its user's role. A token has those of its own scopes that the role still has, so a token
loses `run` when its user becomes a viewer.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from app.domain.messages import Message, _


class Role(StrEnum):
    """The role of a user, the least first."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"


class Scope(StrEnum):
    """What a request needs and a token grants."""

    READ = "read"
    RUN = "run"
    ADMIN = "admin"


SCOPES: dict[Role, frozenset[Scope]] = {
    Role.VIEWER: frozenset({Scope.READ}),
    Role.MEMBER: frozenset({Scope.READ, Scope.RUN}),
    Role.ADMIN: frozenset(Scope),
}


@dataclass(frozen=True)
class Identity:
    """The user of a request, and what the request may do."""

    user_id: int | None
    """None where Vezna runs for a single user, without login."""
    email: str
    name: str
    role: Role
    scopes: frozenset[Scope]
    session_id: int | None = None
    token_id: int | None = None
    language: str = ""
    """That the user has chosen for pages; empty without a choice, and with a token."""

    @property
    def owner(self) -> str:
        """A key that differs between users: `user 3`; empty without login."""
        return "" if self.user_id is None else f"user {self.user_id}"

    def may(self, scope: Scope) -> bool:
        """Whether the request may do what needs a scope."""
        return scope in self.scopes

    def refusal(self, scope: Scope) -> Message:
        """Why the request may not do what needs a scope, and what to do."""
        if self.token_id is not None and scope in SCOPES[self.role]:
            return _("This token lacks the scope %(scope)s. Create a token that has it.", scope=scope.value)
        needed = next(role for role in Role if scope in SCOPES[role]).value
        return _(
            "Your role %(role)s does not permit this; it needs %(needed)s. Ask an admin to change your role.",
            role=self.role.value,
            needed=needed,
        )


SINGLE_USER = Identity(None, "", "", Role.ADMIN, frozenset(Scope))
"""The identity of every request where Vezna runs for a single user, without login."""


def of_token(role: Role, scopes: Collection[Scope]) -> frozenset[Scope]:
    """The scopes that a token has in effect, which its user's role bounds."""
    return SCOPES[role] & frozenset(scopes)
