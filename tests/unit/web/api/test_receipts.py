"""Receipts of exports: what they hold, who can verify them, and what is noticed."""

import io
import json
import random
import subprocess
import tarfile
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi.testclient import TestClient

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.errors import Invalid, Unavailable
from app.domain.models.exports import ExportedFile, ExportFormat
from app.features.shipping.cli import receipts as cli
from app.features.shipping.rules.receipts import Envelope, signed_bytes
from app.features.shipping.services import signing
from app.features.shipping.services.work import EXPORTS
from app.settings import Settings
from app.store.files.files import Files, sha256
from app.store.runs import queries as runs
from tests.support.filled.exports import add, gate
from tests.unit.web.conftest import database_of

SUCCEEDED = 2
CONTENTS = {"model.safetensors": b"weights", "config.json": b"{}"}


@pytest.fixture
def export_id(full: TestClient, tmp_path: Path) -> int:
    """An export that passed its gate, with its files."""
    with database_of(full).transaction() as session:
        number = add(
            session, SUCCEEDED, ExportFormat.MERGED_FLOAT32, "succeeded", gate(GateOutcome.PASS, -0.002, 0.004)
        )
        row = EXPORTS.get(session, number)
        files, stored = Files(Settings(home=tmp_path).files), []
        for name, content in CONTENTS.items():
            (local := tmp_path / name).write_bytes(content)
            files.put(local, f"{row.prefix}/{name}")
            stored.append(ExportedFile(name=name, bytes=len(content), sha256=sha256(local)).model_dump())
        row.files_json = stored
    return number


def envelope(client: TestClient, export_id: int) -> bytes:
    answer = client.get(f"/api/v1/exports/{export_id}/receipt")
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.fixture
def key(full: TestClient, tmp_path: Path) -> Path:
    """The installation's public key in a file."""
    file = tmp_path / "public.pem"
    file.write_text(full.get("/api/v1/receipt-key").json()["pem"])
    return file


def test_a_receipt_names_everything_that_decided_the_result(full: TestClient, export_id: int) -> None:
    signed = json.loads(envelope(full, export_id))
    statement = json.loads(b64decode(signed["payload"]))
    assert (signed["payloadType"], statement["_type"]) == (
        "application/vnd.in-toto+json",
        "https://in-toto.io/Statement/v1",
    )
    assert [subject["name"] for subject in statement["subject"]] == list(CONTENTS)
    told = statement["predicate"]
    with database_of(full).reading() as session:
        run = runs.get(session, SUCCEEDED)
        assert run.result is not None
        assert told["spec"] == run.spec.model_dump(mode="json")
        assert told["environment"]["versions"] == run.result.environment.versions
    assert told["base_model"]["revision"] and told["dataset"]["content_hash"] and told["dataset"]["test_items"]
    assert (told["gate"]["outcome"], told["gate"]["run_score"]) == ("pass", 0.896)
    assert envelope(full, export_id) == envelope(full, export_id), "it does not depend on when it is asked for"


def test_openssl_verifies_it(full: TestClient, export_id: int, key: Path, tmp_path: Path) -> None:
    signed = Envelope.parse(envelope(full, export_id))
    (tmp_path / "signed").write_bytes(signed_bytes(signed.contents))
    (tmp_path / "signature").write_bytes(signed.signature)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", tmp_path / "signed"]
    done = subprocess.run([*command, "-sigfile", tmp_path / "signature"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Verified Successfully" in done.stdout, done.stderr


def test_every_changed_byte_is_noticed(full: TestClient, export_id: int, key: Path) -> None:
    whole = envelope(full, export_id)
    keys = [signing.public_key(key.read_bytes())]
    assert signing.verified(Envelope.parse(whole), keys).predicate.export == export_id
    rng = random.Random(0)
    for place in (*range(0, 60), *rng.sample(range(len(whole)), 150), *range(len(whole) - 200, len(whole))):
        changed = bytearray(whole)
        changed[place] = rng.choice([byte for byte in range(32, 127) if byte != whole[place]])
        with pytest.raises(Invalid):
            signing.verified(Envelope.parse(bytes(changed)), keys)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b" " + text,
        lambda text: text + b"\n",
        lambda text: text.replace(b'"payload":', b'"payload":"AAAA","payload":', 1),
        lambda text: text.replace(b'"payloadType":"application/vnd.in-toto+json",', b"", 1),
        lambda text: text.replace(b",", b", ", 1),
    ],
    ids=["before", "after", "twice", "missing", "within"],
)
def test_changed_files_are_noticed(
    full: TestClient, export_id: int, key: Path, change: Callable[[bytes], bytes]
) -> None:
    whole = envelope(full, export_id)
    assert change(whole) != whole
    with pytest.raises(Invalid, match="changed"):
        signing.verified(Envelope.parse(change(whole)), [signing.public_key(key.read_bytes())])


def test_another_installations_key_is_unknown(full: TestClient, export_id: int, tmp_path: Path) -> None:
    other = signing.signing_key(Settings(home=tmp_path / "other")).public_key()
    with pytest.raises(Invalid, match="signed by a key that is not known here"):
        signing.verified(Envelope.parse(envelope(full, export_id)), [other])


def test_the_key_is_written_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    first = signing.signing_key(settings)
    file = settings.home / signing.KEY_FILE
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert signing.key_id(signing.signing_key(settings).public_key()) == signing.key_id(first.public_key())


@pytest.mark.parametrize("content", [b"", b"no key", "public", "P-256"], ids=["empty", "text", "public", "other-kind"])
def test_an_unusable_key_is_explained(full: TestClient, export_id: int, tmp_path: Path, content: bytes | str) -> None:
    if content == "public":
        public = Ed25519PrivateKey.generate().public_key()
        content = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    elif content == "P-256":
        content = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert isinstance(content, bytes)
    (tmp_path / signing.KEY_FILE).write_bytes(content)
    answer = full.get(f"/api/v1/exports/{export_id}/receipt")
    assert answer.status_code == 503
    assert "openssl genpkey -algorithm ed25519" in answer.json()["detail"]
    archive = full.get(f"/api/v1/exports/{export_id}/archive")
    assert archive.status_code == 200, "the files can be had without it"
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        assert not [name for name in tar.getnames() if name.endswith("receipt.json")]


def test_a_home_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be read or written"):
        signing.signing_key(Settings.model_construct(home=tmp_path / "file" / "home"))


def test_there_is_none_before_the_export_has_succeeded(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        running = add(session, SUCCEEDED, ExportFormat.MERGED_FLOAT32, "running")
    answer = full.get(f"/api/v1/exports/{running}/receipt")
    assert (answer.status_code, "is running, so there is no receipt" in answer.json()["detail"]) == (409, True)
    assert full.get("/api/v1/exports/9999/receipt").status_code == 404


@pytest.fixture
def archive(full: TestClient, export_id: int, tmp_path: Path) -> Path:
    """An export's archive as a user downloads it."""
    file = tmp_path / "export.tar"
    file.write_bytes(full.get(f"/api/v1/exports/{export_id}/archive").content)
    return file


def test_an_archive_and_its_folder_are_verified_with_their_files(
    archive: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.verify(archive, [key])
    printed = " ".join(capsys.readouterr().out.split())
    assert "The signature is valid. 2 files match." in printed
    assert f"Run {SUCCEEDED}, Merged, float32" in printed and "Gate: pass (−0.2 ± 0.4 points)." in printed
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    folder = next((tmp_path / "out").iterdir())
    cli.verify(folder, [key])
    cli.verify(folder / "receipt.json", [key])
    assert "files were not checked" in capsys.readouterr().out
    cli.verify(folder, [key], as_json=True)
    assert json.loads(capsys.readouterr().out)["predicate"]["run"] == SUCCEEDED
    (folder / "model.safetensors").write_bytes(b"weightz")
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(Invalid) as wrong:
        cli.verify(folder, [key])
    for part in (
        "model.safetensors has changed",
        "config.json is missing",
        "adapter_config.json is not in the receipt",
    ):
        assert part in wrong.value.message
    (folder / "receipt.json").unlink()
    with pytest.raises(Invalid, match=r"has no receipt\.json"):
        cli.verify(folder, [key])


def rewritten(archive: Path, target: Path, more: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """The archive with members before its own."""
    with tarfile.open(archive) as old, tarfile.open(target, "w") as new:
        for info, content in more:
            new.addfile(info, io.BytesIO(content))
        for member in old:
            new.addfile(member, old.extractfile(member))
    return target


@pytest.mark.parametrize("where", ["twice", "another folder", "a link", "a linked folder"])
def test_an_archive_with_something_else_is_refused(archive: Path, key: Path, tmp_path: Path, where: str) -> None:
    with tarfile.open(archive) as tar:
        folder = tar.getnames()[0].partition("/")[0]
    name = {"another folder": "z/model.safetensors", "twice": f"{folder}/model.safetensors"}.get(where, f"{folder}/x")
    info = tarfile.TarInfo(name)
    if "link" in where:
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd" if where == "a link" else ".."
    else:
        info.size = 5
    with pytest.raises(Invalid, match="no archive of an export"):
        cli.verify(rewritten(archive, tmp_path / "other.tar", [(info, b"other")]), [key])


def test_an_interrupted_download_is_damaged(archive: Path, key: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes(archive.read_bytes()[:700])
    with pytest.raises(Invalid, match="damaged or incomplete"):
        cli.verify(cut, [key])


def test_a_folder_with_a_link_is_refused(archive: Path, key: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    folder = next((tmp_path / "out").iterdir())
    cli.verify(folder, [key])
    (tmp_path / "elsewhere").mkdir()
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Invalid, match="is no file but a link"):
        cli.verify(folder, [key])


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"payload": 1}'])
def test_what_is_no_receipt_is_refused(content: bytes, key: Path, tmp_path: Path) -> None:
    file = tmp_path / "receipt.json"
    file.write_bytes(content)
    with pytest.raises(Invalid, match="not a receipt"):
        cli.verify(file, [key])


def test_a_private_key_is_no_public_key(archive: Path, full: TestClient, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not a public key"):
        cli.verify(archive, [tmp_path / signing.KEY_FILE])
