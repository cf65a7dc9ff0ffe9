"""Random secrets: of sessions, of API tokens, of links that work once. The database has only their SHA-256.

A secret has 256 random bits, so a plain hash suffices: no list of guesses comes near it, unlike that of passwords.
"""

import hashlib
import re
import secrets

TOKEN_PREFIX = "vezna_"  # noqa: S105 not a secret: secret scanners find tokens by it
SECRET_BYTES = 32
SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
"""32 bytes in URL-safe base64."""
SHOWN_CHARACTERS = 4
"""Characters of a token's random part that lists show."""


def new_secret() -> str:
    """256 random bits, safe in addresses and cookies."""
    return secrets.token_urlsafe(SECRET_BYTES)


def new_token() -> str:
    """A secret that secret scanners recognize: `vezna_…`."""
    return TOKEN_PREFIX + new_secret()


def digest(secret: str) -> str:
    """SHA-256 in hexadecimal, as it is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


def hint(token: str) -> str:
    """The beginning of a token, for lists: `vezna_Xa3f`. 232 random bits remain."""
    return token[: len(TOKEN_PREFIX) + SHOWN_CHARACTERS]


def is_secret(text: str) -> bool:
    """Whether a text could be a secret. The database is not asked about any other."""
    return SECRET.fullmatch(text) is not None


def is_token(text: str) -> bool:
    """Whether a text could be an API token."""
    return text.startswith(TOKEN_PREFIX) and is_secret(text.removeprefix(TOKEN_PREFIX))
