"""Secrets that have to be read again: encrypted in the database by Fernet (AES-128-CBC with HMAC-SHA-256), with a key
that is not in it.

The keys are those of `VEZNA_ENCRYPTION_KEY_FILE`, one a line, else of VEZNA_HOME/secrets.key, which is made when it is
first needed. The first key encrypts, and each of them decrypts. To replace a key, put a new one on the first line of
the file, run `vezna rotate-key`, and remove the old one.
"""

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from app.domain.errors import Unavailable
from app.domain.messages import _
from app.settings import Settings
from app.store.key_file import read_or_write

KEY_FILE = "secrets.key"


class Vault:
    """Encrypts and decrypts with the keys of an installation."""

    def __init__(self, settings: Settings) -> None:
        """Raises Unavailable without a usable key."""
        self._keys = MultiFernet(_keys(settings))

    def encrypt(self, text: str) -> str:
        """A secret as it is stored."""
        return self._keys.encrypt(text.encode()).decode()

    def decrypt(self, stored: str) -> str:
        """A stored secret. Raises Unavailable if no key fits."""
        try:
            return self._keys.decrypt(stored.encode()).decode()
        except InvalidToken:
            raise _does_not_fit() from None

    def rotate(self, stored: str) -> str:
        """A stored secret, encrypted by the first key. Raises Unavailable if no key fits."""
        try:
            return self._keys.rotate(stored.encode()).decode()
        except InvalidToken:
            raise _does_not_fit() from None


def _keys(settings: Settings) -> list[Fernet]:
    text, place = settings.encryption_key.get_secret_value(), "VEZNA_ENCRYPTION_KEY_FILE"
    if not text:
        file = settings.home / KEY_FILE
        place = str(file)
        try:
            text = read_or_write(file, Fernet.generate_key).decode(errors="replace")
        except OSError as error:
            why = error.strerror or str(error)
            raise Unavailable(
                _("%(file)s cannot be read or written (%(why)s), so no secret can be stored.", file=place, why=why)
            ) from error
    try:
        keys = [Fernet(line.strip()) for line in text.splitlines() if line.strip()]
    except ValueError:
        keys = []
    if not keys:
        raise Unavailable(
            _(
                "%(place)s does not hold keys of 32 bytes in URL-safe base64, one a line. Make one with: openssl rand "
                "-base64 32 | tr +/ -_",
                place=place,
            )
        )
    return keys


def _does_not_fit() -> Unavailable:
    return Unavailable(
        _(
            "A stored secret cannot be decrypted: its key is missing. Add the key that encrypted it to "
            "VEZNA_ENCRYPTION_KEY_FILE, or to secrets.key in VEZNA_HOME."
        )
    )
