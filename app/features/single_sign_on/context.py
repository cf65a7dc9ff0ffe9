"""What single sign-on adds to core pages."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OpenIdButton:
    """Of the form of a login."""

    next: str
    """The path that the login leads to."""
    provider: str
    """Its name, for people."""


@dataclass(frozen=True)
class IdentityButtons:
    """In the list of users."""

    with_identity: frozenset[int]
    """Ids of the users that have an identity at a provider."""
