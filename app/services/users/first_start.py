"""The first admin: from the settings, or by a link in the server's log."""

import structlog
from pydantic import ValidationError

from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.errors import Conflict, FieldError, Invalid
from app.domain.validation import field_error
from app.services.users import links, passwords
from app.services.users import users as user_service
from app.settings import Settings
from app.store.database.session import Database
from app.store.users import queries as users

log = structlog.get_logger()

PATH = "/first-admin/"
HOURS = int(links.FIRST_ADMIN.total_seconds() // 3600)


def prepare(database: Database, settings: Settings) -> str | None:
    """While there is no user: create the admin of the settings, or return the path of a link that creates one. Raises
    Invalid if the settings name a user that cannot be created."""
    with database.reading() as session:
        if users.any_exists(session):
            return None
    if settings.admin_email:
        _create(database, settings)
        return None
    if not settings.first_admin_link:
        return None
    with database.transaction() as session:
        secret = links.for_first_admin(session)
    return PATH + secret if secret else None


def announce(database: Database, settings: Settings) -> None:
    """Prepare, and log the link."""
    if path := prepare(database, settings):
        log.warning(f"No user exists yet: create the first admin at this path within {HOURS} hours", link=path)


def _create(database: Database, settings: Settings) -> None:
    try:
        new = NewUser(email=settings.admin_email, role=Role.ADMIN)
        stored = passwords.accepted(settings.admin_password.get_secret_value(), new.email)
    except ValidationError as error:
        raise _located("VEZNA_ADMIN_EMAIL", [field_error(each, {}) for each in error.errors()]) from None
    except Invalid as error:
        raise _located("VEZNA_ADMIN_PASSWORD_FILE", error.fields) from None
    try:
        with database.transaction() as session:
            user_service.create(session, new, stored)
    except Conflict:  # another web process was faster
        return
    log.warning("Created the first admin", email=new.email)


def _located(setting: str, fields: "list[FieldError] | tuple[FieldError, ...]") -> Invalid:
    return Invalid.of([FieldError(setting, field.message, field.remedy) for field in fields])
