"""The installation's key for receipts: Ed25519 (RFC 8032), in a file that its owner alone can read.

VEZNA_HOME/receipts.pem     private key, PKCS #8; `openssl genpkey -algorithm ed25519` makes one too
id                          SHA-256 of the 32 bytes of the public key, in hexadecimal digits
"""

import hashlib
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from app.domain.errors import Invalid, Unavailable
from app.domain.messages import Message, _
from app.features.shipping.rules.receipts import Envelope, Statement, signed_bytes
from app.settings import Settings
from app.store.files.key_file import read_or_write

KEY_FILE = "receipts.pem"


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """The key, which is made when it is first needed. Raises Unavailable if the file cannot be written or read."""
    file = settings.home / KEY_FILE
    remedy = _(
        "Make a key with `openssl genpkey -algorithm ed25519 -out %(name)s`, and put it at %(file)s.",
        name=KEY_FILE,
        file=str(file),
    )
    try:
        key = load_pem_private_key(read_or_write(file, _new_key), password=None)
    except OSError as error:
        why = error.strerror or str(error)
        text = _("%(file)s cannot be read or written (%(why)s), so no receipt can be signed.", file=str(file), why=why)
        raise Unavailable(Message.joined([text, remedy])) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        text = _("%(file)s does not hold a private key in PEM, so no receipt can be signed.", file=str(file))
        raise Unavailable(Message.joined([text, remedy])) from error
    if not isinstance(key, Ed25519PrivateKey):
        text = _("%(file)s holds a key of another kind than Ed25519, so no receipt can be signed.", file=str(file))
        raise Unavailable(Message.joined([text, remedy]))
    return key


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: Ed25519PublicKey) -> str:
    """A public key in PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_key(pem: bytes) -> Ed25519PublicKey:
    """A public key from PEM. Raises Invalid."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Invalid(_("This is not a public key in PEM.")) from error
    if not isinstance(key, Ed25519PublicKey):
        raise Invalid(_("This is a key of another kind than Ed25519, with which Vezna signs."))
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """By which a receipt names the key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def sign(key: Ed25519PrivateKey, statement: Statement) -> Envelope:
    """The signed statement; the same each time."""
    return Envelope.of(statement, key_id(key.public_key()), key.sign(signed_bytes(statement.encoded)))


def verified(envelope: Envelope, keys: Iterable[Ed25519PublicKey]) -> Statement:
    """What a receipt says, signed by one of these keys. Raises Invalid for another key, and for a changed receipt."""
    key = {key_id(key): key for key in keys}.get(envelope.keyid)
    if key is None:
        raise Invalid(
            _(
                "The receipt is signed by a key that is not known here (%(key)s). Take the public key from the "
                "installation that signed it, over a connection that you trust.",
                key=envelope.keyid[:16],
            )
        )
    try:
        key.verify(envelope.signature, signed_bytes(envelope.contents))
    except InvalidSignature:
        raise Invalid(_("The receipt has been changed: its signature does not match its contents.")) from None
    return envelope.statement
