"""`vezna datasets` against an application that reads what comes: files become datasets, and what is said of it."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.broker.queue import READ
from app.cli import program as cli
from app.cli.terminal import data
from app.domain.data.findings import Details, Finding
from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import estimates as filled_estimates
from tests.support.ingested import context
from tests.support.servers.served import served
from worker.ingest import tasks

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.parametrize("database", ["sqlite"], indirect=True)]

CSV = b"review,stars\n" + b"".join(b"good thing %d,1\nbad thing %d,0\n" % (i, i) for i in range(60))


class Worker(SilentBell):
    """A bell that is heard: who rings has it read or prepared, in a thread."""

    here: Any = None

    def ring(self, task: str, *args: Any) -> bool:
        """Read or prepare."""
        done = tasks.read if task == READ else tasks.prepare
        threading.Thread(target=done, args=(self.here, *args)).start()
        return super().ring(task, *args)


@pytest.fixture
def server(registered: Database, settings: Settings, files: Files) -> Iterator[str]:
    """URL of an application that takes at most a megabyte."""
    app = create_app(settings.model_copy(update={"upload_bytes": 1 << 20}))
    bell = Worker()
    bell.here = context(settings, registered, files)
    app.state.doorbell = bell
    with served(app) as url:
        yield url


@pytest.fixture
def vezna(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: str) -> Any:
    """Runs `vezna datasets`: its exit status, its output, what it said on standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr("sys.argv", ["vezna", "datasets", *arguments, "--url", server])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def file(folder: Path, name: str, content: bytes = CSV) -> str:
    """A file on this machine."""
    path = folder / name
    path.write_bytes(content)
    return str(path)


@pytest.mark.slow
def test_a_file_becomes_a_dataset_named_after_it(vezna: Any, tmp_path: Path) -> None:
    path = file(tmp_path, "my reviews-train.csv")
    status, said, read = vezna("add", path, "--text", "review", "--label", "stars", "--label-name", "1=good")
    assert status == 0
    assert "my reviews-train.csv: 120 rows, 2 columns (review, stars); CSV, utf-8." in read
    assert "my-reviews@1 is ready." in said
    assert "train 96, validation 12, test 12" in said
    assert "labels: 0 60, good 60" in said
    assert "dataset: my-reviews@1" in said
    _status, listed, _err = vezna("list")
    assert "my-reviews@1" in listed
    assert json.loads(vezna("show", "my-reviews", "--json")[1])["mapping"]["columns"] == {
        "text": "review",
        "label": "stars",
    }
    assert vezna("delete", "my-reviews@1")[0] == 0
    assert "There is no dataset 'my-reviews'" in vezna("show", "my-reviews")[2]


def test_rows_are_printed_as_a_model_sees_them_with_what_the_loss_covers(
    vezna: Any, registered: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Finding(code="stop-outside-loss", severity="warns", count=1, details=Details(of_rows=96))
    seen = filled_estimates.preview(learnt=True).model_copy(update={"findings": [found]})
    monkeypatch.setattr(filled_estimates, "_answer", lambda _request: seen)
    monkeypatch.setattr(Worker, "ring", lambda *_: bool(filled_estimates.answer_requests(registered)))
    status, said, _err = vezna("preview", "small", "--model", "tiny", "--max-length", "64")
    assert status == 0
    assert "Warning: 1 of 96 rows has a reply whose stop token is outside the loss" in said.replace("\xa0", " ")
    assert "⟦…⟧: tokens in the loss" in said
    assert "train, 133 tokens, 2 in the loss" in said
    assert "[CLS]good⟦ thing 1⟧[SEP]" in said
    assert data._printable("a\n\x1b[2Jb") == "a\n\N{REPLACEMENT CHARACTER}[2Jb"
    assert data._printable("\u202e\ud800\x85") == "\N{REPLACEMENT CHARACTER}" * 3
    for words in ("日本\u3000語", "می\u200cخواهم", "15\xa0000\u202f€", "👨\u200d👩\u200d👧"):
        assert data._printable(words) == words
    assert "no base model" in vezna("preview", "small", "--model", "none")[2]


def test_a_blocking_finding_is_printed_with_exit_status_1(vezna: Any, tmp_path: Path) -> None:
    path = file(tmp_path, "few.csv", b"text,label\na,x\nb,y\n")
    status, said, _err = vezna("add", path)
    assert status == 1
    assert "few@1 is blocked: The dataset has 2 rows" in said
    assert "Blocks the dataset: " in said


@pytest.mark.by_day
@pytest.mark.parametrize(
    ("name", "content", "options", "says"),
    [
        ("a.csv", b"text,label\na,b\nc\n", [], "has 1 of the 2 fields"),
        ("a.csv", b"", [], "a.csv is empty"),
        ("a.csv", CSV, ["--text", "nope", "--label", "stars"], "mapping.columns.text: There is no column 'nope'"),
        ("a.csv", CSV, ["--label-name", "good"], "VALUE=NAME"),
        ("a.csv", CSV, ["--encoding", "utf-99"], "'utf-99' is not a text encoding"),
        ("a.csv", CSV * 1000, [], "larger than the upload limit of 1 MiB"),
        ("../up/a.csv", b"text,label\n" + CSV[13:], ["--name", "../up"], "name: Must match the pattern"),
    ],
)
def test_unusable_data_is_one_sentence(
    vezna: Any, tmp_path: Path, name: str, content: bytes, options: list[str], says: str
) -> None:
    (tmp_path / "up").mkdir(exist_ok=True)
    status, _said, error = vezna("add", file(tmp_path / "up", name, content), *options)
    assert status == 1
    assert says in error


def test_an_interrupted_upload_leaves_no_file(server: str, files: Files) -> None:
    incoming = Path(files.root) / "uploads"
    host, _colon, port = server.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"PUT /api/v1/uploads/files/a.csv HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9999\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 999)
        deadline = time.monotonic() + 10
        while not list(incoming.glob("*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert list(incoming.glob("*"))
    while list(incoming.glob("*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(incoming.glob("*")) == []
    assert httpx2.get(f"{server}/api/v1/uploads").json() == []


def test_a_missing_or_invalid_source_is_one_sentence(vezna: Any, tmp_path: Path) -> None:
    assert "--directory DIR" in vezna("add")[2]
    assert "No such file" in vezna("add", str(tmp_path / "none.csv"))[2]
    assert "location: '/etc' is not below an allowed root" in vezna("add", "--directory", "/etc")[2]
