"""Data that lie in a directory of the server's, or on the hub: fetched by the worker, and then read like any other."""

from pathlib import Path
from typing import Any

import datasets as hub_datasets
import httpx
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError

from app.broker.queue import READ
from app.domain.accounts.ownership import Viewer
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.data.uploads import SourceRequest
from app.domain.errors import Invalid
from app.services.data import uploads
from app.services.ownership.vault import Vault
from app.services.users import hub_tokens, users
from app.services.users.hub_tokens import NewHubToken
from app.settings import Settings
from app.store.data import uploads as upload_rows
from app.store.database.session import Database
from app.store.files.files import Files, StoreUnavailable
from app.store.tables import UploadRow
from tests.support.fakes.fakes import UndoneOnce
from tests.support.ingested import context, dataset
from worker.ingest import tasks
from worker.ingest.readers import hub
from worker.nodes.context import Context

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
COMMIT = "c" * 40
HUB = SourceRequest(source="hub", location="nobody/knows-it", revision="main")
ROWS = "".join(f"text {i},{'yes' if i % 2 else 'no'}\n" for i in range(40))


@pytest.fixture
def here(settings: Settings, database: Database, files: Files) -> Context:
    return context(settings, database, files)


@pytest.fixture
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache of its own, and a hub that has one dataset at one commit: the files in `builder`."""
    load = hub_datasets.load_dataset

    def from_here(location: str, config: str | None, **options: Any) -> Any:
        assert (location, options["revision"]) == (HUB.location, COMMIT)
        return load(str(tmp_path / "builder"), config, **options)

    monkeypatch.setattr(hub_datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(hub_datasets, "load_dataset", from_here)
    monkeypatch.setattr(hub, "commit_of", lambda *_: COMMIT)


def add(here: Context, wanted: SourceRequest, roots: list[Path] | None = None) -> UploadRow:
    with here.database.transaction() as session:
        row = uploads.add_source(session, here.bell, wanted, roots or [])
    tasks.read(here, row.id)
    with here.database.reading() as session:
        return upload_rows.get(session, row.id)


def test_the_files_of_a_directory_are_splits_by_their_names(here: Context, tmp_path: Path) -> None:
    place = tmp_path / "roots" / "reviews"
    (place / "test").mkdir(parents=True)
    (place / ".hidden").mkdir()
    (place / "train.csv").write_text(f"text,label\n{ROWS}")
    (place / "test" / "part-0.csv").write_text(f"text,label\n{ROWS.replace('text', 'other')}")
    (place / ".hidden" / "x.csv").write_text("not,read\n")
    (place / "README.md").write_text("what this is")
    secret = tmp_path / "secret.csv"
    secret.write_text("text,label\nsecret,yes\n")
    (place / "link.csv").symlink_to(secret)
    row = add(here, SourceRequest(source="directory", location=str(place)), [tmp_path / "roots"])
    assert (row.status, row.message) == ("read", "")
    assert [(part.name, part.split) for part in row.parts] == [("part-0.csv", "test"), ("train.csv", "train")]
    assert row.scan and row.scan.splits == {"test": 40, "train": 40}
    assert row.content_hash and row.bytes == sum(part.bytes for part in row.parts)
    assert dataset(here, row).facts.counts["test"] == 40
    (place / "train.csv").write_text(f"text,label\n{ROWS}one more,yes\n")
    changed = add(here, SourceRequest(source="directory", location=str(place)), [tmp_path / "roots"])
    assert changed.id != row.id
    made = dataset(here, changed)
    assert (made.version, made.facts.counts["train"]) == (2, 37)


def test_a_directory_is_fetched_later_if_the_store_does_not_answer(
    here: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "roots"
    place.mkdir()
    (place / "rows.csv").write_text(f"text,label\n{ROWS}")

    def away(*_: object) -> None:
        raise StoreUnavailable("the store does not answer")

    monkeypatch.setattr(here.files, "receive", away)
    row = add(here, SourceRequest(source="directory", location=str(place)), [place])
    assert (row.status, row.message) == ("reading", "")


def test_files_that_another_upload_has_are_discarded_once_though_a_deadlock_undid_the_first_try(
    here: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "roots"
    place.mkdir()
    (place / "rows.csv").write_text(f"text,label\n{ROWS}")
    wanted, discard, discarded = SourceRequest(source="directory", location=str(place)), here.files.discard, []

    def remember(name: str) -> None:
        discarded.append(name)
        discard(name)

    first = add(here, wanted, [place])
    monkeypatch.setattr(here.files, "discard", remember)
    monkeypatch.setattr(uploads, "fetched", fetched := UndoneOnce(uploads.fetched))
    again = add(here, wanted, [place])
    assert (again.status, again.parts, fetched.tries) == ("read", first.parts, 2)
    assert len(discarded) == 1 and here.files.names("uploads") == {first.parts[0].file}


def test_a_directory_outside_the_roots_is_refused(here: Context, tmp_path: Path) -> None:
    for location in (str(tmp_path / "other"), str(tmp_path / "roots" / ".." / "other")):
        with here.database.transaction() as session, pytest.raises(Invalid, match="not below an allowed root"):
            wanted = SourceRequest(source="directory", location=location)
            uploads.add_source(session, here.bell, wanted, [tmp_path / "roots"])
    with here.database.reading() as session:
        assert upload_rows.newest(session) == []


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "contains no file that Vezna reads: CSV, TSV, JSONL, JSON, Parquet and zip archives of images"),
        (["a.csv", "b.jsonl"], "contains files of several kinds (csv, jsonl)"),
        (["a.csv"], "a.csv is empty."),
    ],
)
def test_a_directory_that_is_of_no_use_leaves_a_sentence_and_no_bytes(
    here: Context, tmp_path: Path, names: list[str], sentence: str
) -> None:
    for name in names:
        (tmp_path / "roots").mkdir(exist_ok=True)
        (tmp_path / "roots" / name).write_text("")
    (tmp_path / "roots").mkdir(exist_ok=True)
    row = add(here, SourceRequest(source="directory", location=str(tmp_path / "roots")), [tmp_path])
    assert row.status == "failed"
    assert sentence in row.message
    assert row.parts == []


@pytest.mark.usefixtures("hub_cache")
def test_a_dataset_of_the_hub_is_kept_with_its_commit_and_its_names_of_labels(here: Context, tmp_path: Path) -> None:
    place = tmp_path / "builder"
    features = hub_datasets.Features(
        {"text": hub_datasets.Value("string"), "label": hub_datasets.ClassLabel(names=["World", "Sports"])}
    )
    for split, first in (("train", 0), ("test", 100)):
        rows = {"text": [f"text {first + i}" for i in range(60)], "label": [i % 2 for i in range(60)]}
        hub_datasets.Dataset.from_dict(rows, features=features).to_parquet(str(place / f"{split}.parquet"))
    row = add(here, HUB)
    assert (row.status, row.message, row.revision) == ("read", "", COMMIT)
    assert [(part.name, part.split) for part in row.parts] == [("test.parquet", "test"), ("train.parquet", "train")]
    assert row.scan and row.scan.columns[1].values == {"World": 60, "Sports": 60}
    assert dataset(here, row).facts.labels == ["Sports", "World"]


@pytest.mark.usefixtures("hub_cache")
def test_a_gated_dataset_opens_to_its_owners_token_and_stays_in_no_shared_cache(
    here: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, token = tmp_path / "builder", "hf_" + "a" * 34
    folder.mkdir()
    hub_datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]}).to_parquet(str(folder / "train.parquet"))
    load, shared, asked = hub_datasets.load_dataset, constants.HF_HUB_CACHE, []

    def gated(location: str, config: str | None, **options: Any) -> Any:
        asked.append((options["token"], options["cache_dir"], constants.HF_HUB_CACHE))
        if options["token"] != token:
            raise GatedRepoError("gated", response=httpx.Response(403, request=httpx.Request("GET", "http://hub")))
        return load(location, config, **options)

    monkeypatch.setattr(hub_datasets, "load_dataset", gated)
    assert "is gated on the hub" in add(here, HUB).message
    with here.database.transaction() as session:
        user = users.create(session, NewUser(email="ada@example.org", role=Role.MEMBER))
        hub_tokens.store(session, Vault(here.settings), user, NewHubToken(token=token))
    with here.database.seen_by(Viewer(user.id, sees_all=False)).transaction() as session:
        row = uploads.add_source(session, here.bell, HUB, [])
    tasks.read(here, row.id)
    with here.database.reading() as session:
        assert upload_rows.get(session, row.id).status == "read"
    (_none, own) = asked[-2:]
    assert asked[:2] == [(None, None, shared)] * 2 and own[0] == token
    assert own[1] == own[2] != shared and not Path(own[1]).exists() and shared == constants.HF_HUB_CACHE
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("hub_cache")
def test_what_the_library_cannot_load_is_a_sentence(here: Context, tmp_path: Path) -> None:
    (tmp_path / "builder").mkdir()
    (tmp_path / "builder" / "builder.py").write_text("raise SystemExit('a stranger runs')")
    row = add(here, HUB)
    assert row.status == "failed"
    assert "needs Python code from its repository, which Vezna never runs" in row.message


def test_without_a_network_it_is_said(here: Context) -> None:
    row = add(here, SourceRequest(source="hub", location="fancyzhx/ag_news"))
    assert row.status == "failed"
    assert row.message.startswith("This worker is offline (HF_HUB_OFFLINE), and fancyzhx/ag_news is not completely")
    assert here.bell.rung == [(READ, row.id)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("location", ["../etc", "a/b/c", "/etc", "owner/..", ""])
def test_an_id_that_leads_elsewhere_is_refused(database: Database, location: str) -> None:
    with pytest.raises(ValueError):
        SourceRequest(source="hub", location=location)
