"""`vezna models` against an application whose worker inspects at once: added, listed, shown, refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.cli import program as cli
from app.domain.models.base_model import SAMPLE_LANGUAGE_MODEL, SAMPLE_MODEL
from app.main import create_app
from app.services.models import models
from app.settings import Settings
from app.store.database.session import Database
from app.store.models import queries as base_models
from tests.conftest import TINY_FACTS
from tests.support.fakes.fakes import SilentBell
from tests.support.servers.served import served

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.parametrize("database", ["sqlite"], indirect=True)]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Worker(SilentBell):
    """A bell that is heard: who rings has a model inspected, unless it is gated."""

    database: Any = None

    def ring(self, task: str, *args: Any) -> bool:
        with self.database.transaction() as session:
            row = base_models.by_id(session, args[0])
            if row is not None and "gated" in row.location:
                models.uninspectable(session, row.id, "someone/gated is open only to some: set HF_TOKEN.")
            else:
                models.inspected(session, args[0], TINY_FACTS.model_copy(update={"revision": COMMIT}))
        return super().ring(task, *args)


@pytest.fixture
def vezna(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], registered: Database, settings: Settings
) -> Iterator[Any]:
    """Runs `vezna models`: its exit status, its output, what it said on standard error."""
    app, bell = create_app(settings), Worker()
    app.state.doorbell = bell
    bell.database = registered
    with served(app) as url:

        def run(*arguments: str) -> tuple[int, str, str]:
            monkeypatch.setenv("COLUMNS", "200")
            monkeypatch.setattr("sys.argv", ["vezna", "models", *arguments, "--url", url])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            said = capsys.readouterr()
            return int(ended.value.code or 0), said.out, said.err

        yield run


@pytest.mark.slow
def test_a_model_of_the_hub_is_added_at_a_commit(vezna: Any) -> None:
    status, said, _errors = vezna("add", "google-t5/t5-small", "--revision", "main")
    assert status == 0
    for words in ("source       hub google-t5/t5-small", COMMIT, "BertModel", "sequence-classification: Bert"):
        assert words in said
    status, said, _errors = vezna("show", "google-t5/t5-small", "--json")
    found = json.loads(said)
    assert (found["revision"], found["asked_revision"]) == (COMMIT, "main")
    assert "google-t5/t5-small" in vezna("list")[1]


@pytest.mark.slow
def test_the_packaged_sample_is_added_without_a_place(vezna: Any) -> None:
    status, said, _errors = vezna("add", "--sample", "minilm", "--json")
    assert status == 0
    assert (json.loads(said)["name"], json.loads(said)["source"]) == (SAMPLE_MODEL, "sample")
    status, said, _errors = vezna("add", "--sample", "smollm2")
    assert status == 0
    assert SAMPLE_LANGUAGE_MODEL in said and "dequantized from 4 bits" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "someone/gated"), "someone/gated is open only to some: set HF_TOKEN."),
        (("add", "/etc"), "is not below an allowed root"),
        (("add", "a/b/c"), "is not the id of a model"),
        (("add", "a/b", "--name", "tiny"), "already exists"),
        (("show", "nothing"), "There is no base model 'nothing'"),
        (("add",), "Name a model of the hub or a directory, or a packaged one with --sample"),
        (("add", "a/b", "--sample", "minilm"), "--sample"),
    ],
)
def test_an_impossible_request_is_one_sentence_and_status_1(vezna: Any, arguments: tuple[str, ...], words: str) -> None:
    status, _said, errors = vezna(*arguments)
    assert status == 1
    assert words in errors
