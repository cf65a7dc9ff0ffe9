"""Receipts: what an export holds, and how the gate measured it, in a form that can be signed.

    receipt     what was measured, and with which model, data, code and devices
    statement   an in-toto Statement v1: the export's files with their SHA-256, and the receipt about them
    envelope    DSSE v1: the statement's bytes in base64, and a signature over their pre-authentication encoding

Sources: the in-toto attestation framework, spec v1 (statement); secure-systems-lab/dsse, protocol.md and envelope.md.
"""

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain.comparison.fairness.export_gate import ExportGate
from app.domain.errors import Invalid
from app.domain.messages import _
from app.domain.models.exports import ExportedFile, ExportFormat
from app.domain.runs.result import Environment

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
RECEIPT_TYPE: Final = "urn:vezna:receipt:v1"
RECEIPT_FILE = "receipt.json"
"""Its name in an export's archive."""
HUB_FILES = ("README.md", ".gitattributes")
HUB_FOLDERS = (".cache/huggingface/", ".git/")


def of_the_hub(name: str) -> bool:
    """A file that a download from the hub has beside those of the export: the model card, or the hub's own."""
    return name in HUB_FILES or name.startswith(HUB_FOLDERS)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ReceiptModel(_Value):
    """The base model."""

    name: str
    hub_id: str
    """Empty unless it is from the hub."""
    revision: str
    """The commit on the hub, or the hash of a directory's files."""


class ReceiptData(_Value):
    """The dataset."""

    reference: str
    """`name@version`."""
    content_hash: str
    splits: str | None
    """SHA-256 of every row of every split, as the run read them; None for runs that did not record it."""
    test_items: str
    """Hash of the names of the test items, in order."""


class Receipt(_Value):
    """What was measured of an export."""

    run: int
    export: int
    format: ExportFormat
    spec: dict[str, Any]
    """Of the run; `vezna submit` trains it again."""
    base_model: ReceiptModel
    dataset: ReceiptData
    trained: list[ExportedFile]
    """The files that the run saved, of which the export was made."""
    environment: Environment
    """Of the run: device, versions of the libraries, hash of the code."""
    gate: ExportGate
    """The scores of run and export, their difference, and with which versions and code the export was made."""
    measured_at: datetime


class Subject(_Value):
    """A file that a statement is about."""

    name: str
    digest: dict[Literal["sha256"], str]


class Statement(_Value):
    """A receipt, and the files that it is about."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT_TYPE, alias="_type")
    subject: list[Subject]
    predicate_type: Literal["urn:vezna:receipt:v1"] = Field(default=RECEIPT_TYPE, alias="predicateType")
    predicate: Receipt

    @classmethod
    def of(cls, receipt: Receipt, files: list[ExportedFile]) -> Self:
        """The statement about an export's files."""
        subject = [Subject(name=file.name, digest={"sha256": file.sha256}) for file in files]
        return cls(subject=subject, predicate=receipt)

    @property
    def encoded(self) -> bytes:
        """The bytes that are signed."""
        return self.model_dump_json(by_alias=True).encode()

    def differences(self, files: Mapping[str, str]) -> list[str]:
        """How files, their SHA-256 by name, differ from those of the statement: `model.safetensors is missing`."""
        known = {subject.name: subject.digest["sha256"] for subject in self.subject}
        changed = {name: "is missing" if name not in files else "has changed" for name in known}
        wrong = [f"{name} {how}" for name, how in changed.items() if files.get(name) != known[name]]
        return wrong + [f"{name} is not in the receipt" for name in sorted(files.keys() - known.keys())]


class Signature(_Value):
    """A signature in base64, and which key made it."""

    keyid: str
    sig: str


class Envelope(_Value):
    """A signed statement."""

    payload_type: Literal["application/vnd.in-toto+json"] = Field(default=PAYLOAD_TYPE, alias="payloadType")
    payload: str
    signatures: list[Signature] = Field(min_length=1, max_length=1)

    @classmethod
    def of(cls, statement: Statement, keyid: str, signature: bytes) -> Self:
        """The envelope of a statement with a signature over `signed_bytes` of it."""
        encoded = b64encode(statement.encoded).decode()
        return cls(payload=encoded, signatures=[Signature(keyid=keyid, sig=b64encode(signature).decode())])

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """From the contents of a file, which must be `encoded` to the last byte. Raises Invalid."""
        try:
            envelope = cls.model_validate_json(text)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise Invalid(_("This is not a receipt (%(where)s).", where=where or "no JSON")) from error
        if envelope.encoded != text:
            raise Invalid(_("The receipt has been changed: Vezna writes it without spaces, and each field once."))
        return envelope

    @property
    def encoded(self) -> bytes:
        """The contents of its file: without a space, so that every byte matters."""
        return self.model_dump_json(by_alias=True).encode()

    @property
    def keyid(self) -> str:
        """Which key signed it."""
        return self.signatures[0].keyid

    @property
    def signature(self) -> bytes:
        """Raises Invalid."""
        return _decoded(self.signatures[0].sig)

    @property
    def contents(self) -> bytes:
        """The bytes of the statement. Raises Invalid."""
        return _decoded(self.payload)

    @property
    def statement(self) -> Statement:
        """What it says; check the signature first. Raises Invalid."""
        try:
            return Statement.model_validate_json(self.contents)
        except ValidationError as error:
            text = _("The receipt is signed, but by another version of Vezna, whose receipts this one cannot read.")
            raise Invalid(text) from error


def signed_bytes(contents: bytes) -> bytes:
    """What is signed: the pre-authentication encoding of DSSE, which also binds the payload's type."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(contents), contents)


def _decoded(text: str) -> bytes:
    try:
        decoded = b64decode(text, validate=True)
    except (Error, ValueError) as error:
        raise Invalid(_("The receipt has been changed: it is not in base64.")) from error
    if b64encode(decoded).decode() != text:  # two texts may stand for the same bytes
        raise Invalid(_("The receipt has been changed: it is not in base64."))
    return decoded
