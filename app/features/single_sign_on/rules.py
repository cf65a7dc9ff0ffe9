"""Single sign-on with OpenID Connect: what a provider says about a user, and the role that follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.accounts.policy import Role
from app.domain.errors import Unauthenticated
from app.domain.messages import _


@dataclass(frozen=True)
class Profile:
    """A user as the provider knows it, from a verified ID token."""

    issuer: str
    subject: str
    """The provider's own name of the user, which never changes; an e-mail address may get another owner."""
    email: str
    email_verified: bool
    name: str
    role: Role | None
    """By the claim; None where no claim is configured, or it has no value that gives a role."""

    @property
    def has_plain_email(self) -> bool:
        """Whether the address is ASCII. Others have letters that become those of another address in lower case: the
        Kelvin sign (U+212A) becomes k."""
        return self.email.isascii() and self.email.isprintable()


def profile_of(claims: Mapping[str, Any], role: Role | None) -> Profile:
    """From the claims of a verified ID token."""
    email = str(claims.get("email") or "")
    return Profile(
        issuer=str(claims["iss"]),
        subject=str(claims["sub"]),
        email=email.strip().lower() if email.isascii() else email,
        email_verified=claims.get("email_verified") is True,
        name=str(claims.get("name") or ""),
        role=role,
    )


def role_of(claims: Mapping[str, Any], claim: str, roles: Sequence[tuple[str, Role]]) -> Role | None:
    """The highest role that the values of a claim give. `claim` may lead into objects: `realm_access.roles`."""
    value: Any = claims
    for part in claim.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    given = [role for text, role in roles if text in values]
    return max(given, key=list(Role).index, default=None)


def require_role(profile: Profile, default: Role | None) -> Role:
    """The role of a new user. Raises Unauthenticated if there is none."""
    role = profile.role or default
    if role is None:
        raise Unauthenticated(
            _("Your account at the identity provider has no role in Vezna. Ask an admin of this installation for one.")
        )
    return role
