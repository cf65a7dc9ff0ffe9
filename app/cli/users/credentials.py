"""API tokens of the command line: `VEZNA_TOKEN` or `VEZNA_TOKEN_FILE`, else that of `vezna login` for the server.

Those of `vezna login` lie in a file that only its user may read, in the user's configuration directory; each is sent
only to the server that gave it.
"""

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import typer

from app.domain.errors import Invalid
from app.settings.values import LOOPBACK_ADDRESSES, content
from app.words.i18n import gettext as _
from app.words.i18n import stored as in_language

VARIABLE, FILE_VARIABLE = "VEZNA_TOKEN", "VEZNA_TOKEN_FILE"
PORTS = {"http": 80, "https": 443}


def file() -> Path:
    """Where tokens are kept: `~/.config/vezna/tokens.json` on Linux."""
    return Path(typer.get_app_dir("vezna")) / "tokens.json"


def token_for(url: str) -> str:
    """The token for a server; empty if there is none."""
    return given() or stored_for(url)


def given() -> str:
    """The token of the environment, for every server; empty if there is none. Raises Invalid."""
    token, path = os.environ.get(VARIABLE, ""), os.environ.get(FILE_VARIABLE, "")
    if token and path:
        raise Invalid(_("%(one)s and %(other)s are both set: set one of them.", one=VARIABLE, other=FILE_VARIABLE))
    try:
        return content(FILE_VARIABLE, path) if path else token
    except ValueError as error:
        raise Invalid(f"{in_language(str(error))}.") from None


def stored_for(url: str) -> str:
    """The token of `vezna login` for a server; empty if there is none."""
    return _stored().get(_server(url), "")


def require_no_user_name(url: str) -> None:
    """Raise Invalid for an address with a user name, since a request with a token has no place for it: both are the
    header Authorization."""
    if "@" in url.partition("//")[2].partition("/")[0]:
        raise Invalid(
            _(
                "The address has a user name, and an API token is set or stored for it, but a request can carry only "
                "one of them. Remove user name and password from the address (--url or VEZNA_URL). A proxy that asks "
                "for a password has to let /api/v1 through without one."
            )
        )


def store(url: str, token: str) -> Path:
    """Keep a token for a server, or forget it if it is empty. Returns the file."""
    tokens = {server: kept for server, kept in _stored().items() if server != _server(url)}
    if token:
        tokens[_server(url)] = token
    path = file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as written:
        json.dump(tokens, written, indent=2)
    part.replace(path)
    return path


def is_plain(url: str) -> bool:
    """Whether others may read what is sent to an address: HTTP without TLS to another machine."""
    return _server(url).startswith("http://") and urlsplit(url).hostname not in LOOPBACK_ADDRESSES


def _stored() -> dict[str, str]:
    try:
        tokens = json.loads(file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Invalid(_("%(file)s is not JSON. Remove it, then run: vezna login", file=file())) from error
    return {str(server): str(token) for server, token in tokens.items()} if isinstance(tokens, dict) else {}


def _server(url: str) -> str:
    """Scheme, host and port of an address: `https://vezna.example:443`; empty for what is no address."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or PORTS.get(parts.scheme, 0)}"
    except ValueError:
        return ""
