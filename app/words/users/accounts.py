"""Words for accounts: roles, scopes, browsers."""

from app.domain.accounts.policy import Role, Scope
from app.words.i18n import gettext as _
from app.words.i18n import marked

ROLES: dict[Role, str] = {
    Role.VIEWER: marked("viewer"),
    Role.MEMBER: marked("member"),
    Role.ADMIN: marked("admin"),
}
SCOPES: dict[Scope, str] = {
    Scope.READ: marked("see studies, runs, data and models"),
    Scope.RUN: marked("submit, change, cancel and delete"),
    Scope.ADMIN: marked("see users and the audit log"),
}
BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
)
"""A part of the header User-Agent, and the browser; many name several, so the order matters."""
SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def role_name(role: Role | str) -> str:
    """A role in the language of the page."""
    return _(ROLES[Role(role)])


def scope_text(scope: Scope) -> str:
    return _(SCOPES[scope])


def browser_name(user_agent: str) -> str:
    """Browser and system by the header User-Agent: `Firefox on Linux`."""
    browser = next((name for part, name in BROWSERS if part in user_agent), "")
    system = next((name for part, name in SYSTEMS if part in user_agent), "")
    if browser and system:
        return _("%(browser)s on %(system)s", browser=browser, system=system)
    return browser or system or _("unknown browser")


FILTERS = (role_name, scope_text, browser_name)
