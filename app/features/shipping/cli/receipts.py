"""`vezna verify`: whether a receipt is signed by a known key, and whether the files are those that it names."""

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any, cast

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Json, Url, show
from app.domain.errors import Invalid
from app.features.shipping.cli.gate import gate_line
from app.features.shipping.rules.receipts import RECEIPT_FILE, Envelope, Receipt, Statement, of_the_hub
from app.features.shipping.services.signing import public_key, verified
from app.features.shipping.words.exports import format_title, gate_difference, gate_reason
from app.words.format import percent
from app.words.i18n import gettext as _
from app.words.i18n import ngettext


def verify(
    receipt: Annotated[
        Path,
        typer.Argument(
            metavar="RECEIPT",
            help="A receipt, or an archive or folder with receipt.json: then its files are checked too.",
        ),
    ],
    keys: Annotated[
        list[Path] | None,
        typer.Option("--key", help="A public key in PEM that you trust; several may be given. Default: the server's."),
    ] = None,
    url: Url = LOCAL,
    as_json: Json = False,
) -> None:
    """Verify a receipt's signature, and the files beside it. The exit status is 1 for an unknown key, a changed
    receipt, and files that differ."""
    signed, hashes = _read(receipt)
    trusted = [key.read_bytes() for key in keys] if keys else [Client(url).get("/receipt-key")["pem"].encode()]
    statement = verified(Envelope.parse(signed), [public_key(pem) for pem in trusted])
    if hashes is not None and (wrong := statement.differences(hashes)):
        raise Invalid(_("The signature is valid, but the files differ: %(files)s.", files="; ".join(wrong)))
    show(
        statement.model_dump(mode="json", by_alias=True),
        as_json,
        lambda _statement: _lines(statement, hashes is not None),
    )


def _read(place: Path) -> tuple[bytes, dict[str, str] | None]:
    """A receipt, and the SHA-256 of each file beside it; None for a receipt alone. Raises Invalid and OSError."""
    if place.is_dir():
        return _contents(place, _in_folder(place))
    if not tarfile.is_tarfile(place):
        return place.read_bytes(), None
    try:
        with tarfile.open(place, "r:") as tar:
            return _contents(place, _in_archive(place, tar))
    except tarfile.TarError as error:
        raise Invalid(_("%(place)s is damaged or incomplete. Download it again.", place=str(place))) from error


def _in_folder(folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Invalid(_("%(name)s is no file but a link. Verify a copy that has none.", name=name))
        if path.is_file() and not of_the_hub(name):
            yield name, path.open("rb")


def _in_archive(place: Path, tar: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of the archive's one folder, each name once: what is checked is what is unpacked."""
    names, roots = set[str](), set[str]()
    for member in tar:
        root, _slash, name = member.name.partition("/")
        roots.add(root)
        if name in names or len(roots) > 1 or not (member.isreg() or member.isdir()):
            raise Invalid(
                _(
                    "%(place)s is no archive of an export: it has %(name)s twice, outside of its folder, or as a link.",
                    place=str(place),
                    name=member.name,
                )
            )
        names.add(name)
        file = tar.extractfile(member) if member.isreg() else None
        if file is not None:
            yield name, file


def _contents(place: Path, files: Iterable[tuple[str, IO[bytes]]]) -> tuple[bytes, dict[str, str]]:
    receipt, hashes = b"", dict[str, str]()
    for name, file in files:
        with file:
            if name == RECEIPT_FILE:
                receipt = file.read()
            else:
                hashes[name] = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
    if not receipt:
        raise Invalid(_("%(place)s has no %(name)s.", place=str(place), name=RECEIPT_FILE))
    return receipt, hashes


def _lines(statement: Statement, with_files: bool) -> list[str]:
    receipt: Receipt = statement.predicate
    gate, versions = receipt.gate, receipt.environment.versions
    if with_files:
        files = ngettext("%(num)s file matches.", "%(num)s files match.", len(statement.subject))
    else:
        files = _("Its files were not checked: give the archive.")
    used = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return [
        " ".join([_("The signature is valid."), files]),
        _(
            "Run %(run)s, %(format)s: %(model)s on %(dataset)s.",
            run=receipt.run,
            format=format_title(receipt.format),
            model=receipt.base_model.name,
            dataset=receipt.dataset.reference,
        ),
        _(
            "%(metric)s %(run_score)s (run), %(score)s (export), %(items)s test items.",
            metric=gate.metric,
            run_score=percent(gate.run_score),
            score=percent(gate.score),
            items=gate.items,
        ),
        gate_line(_("Gate"), gate.outcome, gate_difference(gate), gate_reason(gate)),
        _("Trained on %(device)s with %(versions)s.", device=receipt.environment.device_name, versions=used),
    ]
