"""Single sign-on on the web."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from app.features.single_sign_on import pages, queries
from app.settings import Settings
from app.web.site import Section, Site


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


def _button(settings: Settings, onward: str) -> OpenIdButton | None:
    provider = settings.openid_name or urlsplit(settings.openid_issuer).netloc
    return OpenIdButton(onward, provider) if provider else None


def _identities(session: Session) -> IdentityButtons | None:
    known = queries.users_with_identity(session)
    return IdentityButtons(frozenset(known)) if known else None


SITE = Site(
    pages=(pages.router, pages.users_router),
    login_sections=(Section("end", "single_sign_on/login.html", _button),),
    users_sections=(
        Section("user", "single_sign_on/button.html", _identities, order=20),
        Section("notes", "single_sign_on/note.html", _identities),
    ),
)
