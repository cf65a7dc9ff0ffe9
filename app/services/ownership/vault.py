"""Secrets that have to be read again: encrypted in the database by Fernet (AES-128-CBC with HMAC-SHA-256), with a key
that is not in it.

The keys are those of `VEZNA_ENCRYPTION_KEY_FILE`, one a line, else of VEZNA_HOME/secrets.key, which is made when a
secret is first encrypted; what decrypts makes none, since it needs the key of the process that encrypted. The first key
encrypts, and each of them decrypts. To replace a key, put a new one on the first line of the file, run `vezna
rotate-key`, and remove the old one.
"""

from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.domain.errors import Unavailable
from app.domain.messages import _
from app.settings import Settings
from app.store.files.key_file import read_or_write

KEY_FILE = "secrets.key"


class Vault:
    """Encrypts and decrypts with the keys of an installation."""

    def __init__(self, settings: Settings) -> None:
        """Raises Unavailable if there are keys, but not usable ones."""
        given = settings.encryption_key.get_secret_value()
        self._file = None if given else settings.home / KEY_FILE
        self._keys: MultiFernet | None
        if self._file is None:
            self._keys = _parsed(given, "VEZNA_ENCRYPTION_KEY_FILE")
        else:
            self._keys = _of_file(self._file, Path.read_bytes) if self._file.exists() else None

    def encrypt(self, text: str) -> str:
        """A secret as it is stored. Raises Unavailable if a key can be neither read nor made."""
        if self._keys is None and self._file is not None:
            self._keys = _of_file(self._file, lambda file: read_or_write(file, Fernet.generate_key))
        return self._there().encrypt(text.encode()).decode()

    def decrypt(self, stored: str) -> str:
        """A stored secret. Raises Unavailable without its key."""
        try:
            return self._there().decrypt(stored.encode()).decode()
        except InvalidToken:
            raise _does_not_fit() from None

    def rotate(self, stored: str) -> str:
        """A stored secret, encrypted by the first key. Raises Unavailable without its key."""
        try:
            return self._there().rotate(stored.encode()).decode()
        except InvalidToken:
            raise _does_not_fit() from None

    def _there(self) -> MultiFernet:
        if self._keys is None:
            raise Unavailable(
                _(
                    "A stored secret cannot be decrypted: VEZNA_ENCRYPTION_KEY_FILE is not set, and %(file)s does not "
                    "exist. Give this process the key of the web server, as VEZNA_ENCRYPTION_KEY_FILE.",
                    file=self._file,
                )
            )
        return self._keys


def _of_file(file: Path, read: Callable[[Path], bytes]) -> MultiFernet:
    try:
        text = read(file).decode(errors="replace")
    except OSError as error:
        why = error.strerror or str(error)
        raise Unavailable(
            _("%(file)s cannot be read or written (%(why)s), so no secret can be stored.", file=file, why=why)
        ) from error
    return _parsed(text, str(file))


def _parsed(text: str, place: str) -> MultiFernet:
    """Keys, one a line."""
    try:
        return MultiFernet([Fernet(line.strip()) for line in text.splitlines() if line.strip()])
    except ValueError:  # also without a key
        raise Unavailable(
            _(
                "%(place)s does not hold keys of 32 bytes in URL-safe base64, one a line. Make one with: openssl rand "
                "-base64 32 | tr +/ -_",
                place=place,
            )
        ) from None


def _does_not_fit() -> Unavailable:
    return Unavailable(
        _(
            "A stored secret cannot be decrypted: its key is missing. Add the key that encrypted it to "
            "VEZNA_ENCRYPTION_KEY_FILE, or to secrets.key in VEZNA_HOME."
        )
    )
