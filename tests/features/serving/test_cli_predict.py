"""`vezna predict`: the rows of a file with the predictions of a run, over REST."""

import csv
import html
import json
import os
import re
import shlex
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from app.cli.program import cli
from app.domain.errors import Invalid
from app.domain.messages import Message
from app.features.serving.cli import predict as command
from app.features.serving.rules import InferenceRequest, failed, too_long
from app.main import create_app
from app.settings import Settings
from app.store.tables import RunRow
from tests.support.fakes.inference import FakeExchange
from tests.support.servers.served import served

Predict = Callable[..., None]


def told(request: InferenceRequest) -> list[dict[str, Any]]:
    """Each input has its last character as its label, and is refused if it is `long`."""
    if "long" in request.inputs:
        error = too_long(request.inputs.index("long"), 40, 16, Message("the run reads 16"))
        return [failed(Invalid.of([error]))]
    events = []
    for index, text in enumerate(request.inputs):
        one = {"index": index, "label": str(text)[-1], "probabilities": {"a": 0.25, "b": 0.75}}
        events.append({"type": "answers", "subject": 0, "predictions": [one]})
    return events[::-1]


@pytest.mark.parametrize(
    ("nested", "columns"),
    [
        (True, {"predicted_entities": [{"type": "PER", "text": "Ада"}], "predicted_words": [{"tag": "B-PER"}]}),
        (False, {"predicted_entities": '[{"type": "PER", "text": "Ада"}]'}),
    ],
)
def test_a_tagger_adds_its_entities_and_where_rows_nest_its_words(nested: bool, columns: dict[str, Any]) -> None:
    prediction = {"words": [{"tag": "B-PER"}], "entities": [{"type": "PER", "text": "Ада"}], "tokens": 3}
    assert command._columns(prediction, nested=nested) == columns


@pytest.mark.parametrize(
    "cell",
    ['["Ada", "slept"]', "['Ada', 'slept']", "['Ada' 'slept']", "Ada slept"],
    ids=["json", "python", "numpy", ""],
)
def test_a_tagger_reads_the_words_of_the_column_tokens_before_the_text(cell: str) -> None:
    rows = [{"text": "Ada slept", "tokens": cell}]
    [[(row, value)]] = command._batches(Path("in.csv"), iter(rows), "", 64, tags=True)
    assert value == ["Ada", "slept"] and row == rows[0]
    [[(_row, text)]] = command._batches(Path("in.csv"), iter(rows), "", 64)
    assert text == "Ada slept"
    [[(_row, bracketed)]] = command._batches(Path("in.csv"), iter([{"text": "[sic] Ada"}]), "", 64, tags=True)
    assert bracketed == "[sic] Ada"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[tuple[str, int, FakeExchange]]:
    """Address of a server, a run that has succeeded, and the worker behind it."""
    home = tmp_path_factory.mktemp("home")
    (home / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    app = create_app(Settings(home=home, allowed_hosts=["127.0.0.1"]))
    app.state.exchange = exchange = FakeExchange(told)
    with app.state.database.reading() as session:
        run_id = session.scalars(select(RunRow.id).where(RunRow.status == "succeeded")).first()
    with served(app) as url:
        yield url, run_id, exchange


@pytest.fixture
def predict(server: tuple[str, int, FakeExchange]) -> Predict:
    """The command against that server."""
    url, run_id, _exchange = server

    def call(file: Path, **options: Any) -> None:
        command.predict(run_id, file, **{"output": None, "batch": 2, "url": url} | options)

    return call


def test_a_csv_file_keeps_its_rows_and_their_order(
    predict: Predict, server: tuple[str, int, FakeExchange], tmp_path: Path
) -> None:
    file = tmp_path / "in.csv"
    file.write_text('id,text\n1,"x, ""a"""\n2,xb\n3,"two\nlines b"\n', encoding="utf-8-sig")
    before = len(server[2].requests)
    predict(file)
    with (tmp_path / "in-predictions.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [row["text"] for row in rows] == ['x, "a"', "xb", "two\nlines b"]
    assert [row["predicted_label"] for row in rows] == ['"', "b", "b"]
    assert [(row["probability_a"], row["probability_b"]) for row in rows] == [("0.25", "0.75")] * 3
    assert [len(request.inputs) for request in server[2].requests[before:]] == [2, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in-predictions.csv", "in.csv"]


def test_an_existing_file_is_kept_and_a_wrong_place_is_named_before_anything_is_predicted(
    predict: Predict, server: tuple[str, int, FakeExchange], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, kept, closed = tmp_path / "in.csv", tmp_path / "in-predictions.csv", tmp_path / "closed"
    file.write_text("text\nxa\n", encoding="utf-8")
    kept.write_text("corrected by hand", encoding="utf-8")
    closed.mkdir()
    before = len(server[2].requests)
    with pytest.raises(Invalid, match=r"in-predictions\.csv exists already\. Name another .* --force"):
        predict(file)
    with pytest.raises(Invalid, match=r"There is no directory .*missing\. Create it"):
        predict(file, output=tmp_path / "missing" / "out.csv")
    with pytest.raises(Invalid, match="is a directory"):
        predict(file, output=closed, force=True)
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, _mode: Path(path) != closed)  # tests may run as root
        with pytest.raises(Invalid, match=r"You may not write into the directory .*closed\."):
            predict(file, output=closed / "out.csv")
    assert (len(server[2].requests), kept.read_text()) == (before, "corrected by hand")
    predict(file, force=True)
    assert kept.read_text().startswith("text,predicted_label")


@pytest.mark.slow
def test_the_command_on_the_page_of_a_run_does_as_it_stands(
    server: tuple[str, int, FakeExchange], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, run_id, _exchange = server
    page = httpx2.get(f"{url}/runs/{run_id}", timeout=120).text
    found = re.search(r'<code id="predict-command">(.*?)</code>', page)
    assert found is not None
    program, *arguments = shlex.split(html.unescape(found[1]))
    assert program == "vezna"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VEZNA_URL", url)
    Path("rows.csv").write_text("text\nxa\nxb\n", encoding="utf-8")
    cli(arguments, standalone_mode=False)
    with Path("rows-predictions.csv").open(newline="") as lines:
        assert [row["predicted_label"] for row in csv.DictReader(lines)] == ["a", "b"]


def test_a_request_has_as_many_bytes_as_a_server_takes(
    predict: Predict, server: tuple[str, int, FakeExchange], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "BATCH_BYTES", 12)
    file = tmp_path / "in.csv"
    file.write_text("text\nxxa\nxxb\nxxxxxxxxxxxxxxxxxxxxb\nxb\nжб\n", encoding="utf-8")
    before = len(server[2].requests)
    predict(file, batch=64)
    sent = [list(request.inputs) for request in server[2].requests[before:]]
    assert sent == [["xxa", "xxb"], ["x" * 20 + "b"], ["xb", "жб"]]
    with (tmp_path / "in-predictions.csv").open(newline="") as lines:
        assert [row["text"] for row in csv.DictReader(lines)] == [text for batch in sent for text in batch]


def test_a_jsonl_file_keeps_its_values(predict: Predict, tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text('{"prompt": "é a", "n": [1]}\n\n{"prompt": "b", "n": null}\n')
    predict(file, output=out)
    first, second = map(json.loads, out.read_text().splitlines())
    assert first == {"prompt": "é a", "n": [1], "predicted_label": "a", "probabilities": {"a": 0.25, "b": 0.75}}
    assert second["n"] is None


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("in.csv", "text\na\nb\nlong\n", "in.csv, row 3: This input has 40 tokens"),
        ("in.csv", "text\n", "has no rows"),
        ("in.csv", "body\na\n", "--column NAME"),
        ("in.csv", "text,text2\na\n", "row 1 does not have the 2 columns"),
        ("in.csv", "text,predicted_label\na,b\n", "already has a column predicted_label"),
        ("in.jsonl", '{"text": "a"}\nno\n', "One JSON object a line"),
        ("in.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("in.jsonl", '{"text": 3}\n', "row 1: text is neither"),
        ("in.parquet", "", "unknown kind"),
    ],
)
def test_what_cannot_be_read_is_named_and_leaves_no_file(
    predict: Predict, tmp_path: Path, name: str, text: str, says: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(Invalid) as refused:
        predict(file)
    assert says.lower() in refused.value.message.lower(), refused.value.message
    assert [path.name for path in tmp_path.iterdir()] == [name]


class ImageServer:
    """A client whose server gives the first letter of each image's bytes as its label."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def ask(self, path: str, body: dict[str, Any], _seconds: float) -> dict[str, Any]:
        """Predictions."""
        assert path == "/runs/47/predict"
        images = [b64decode(given["image"]) for given in body["inputs"]]
        self.sizes.append(len(images))
        if b"broken" in images:
            raise Invalid.field(f"inputs.{images.index(b'broken')}", Message("This image cannot be read"))
        labels = [image[:1].decode() for image in images]
        probabilities = [{"c": float(label == "c"), "d": float(label == "d")} for label in labels]
        pairs = zip(labels, probabilities, strict=True)
        return {"predictions": [{"label": label, "probabilities": of_label} for label, of_label in pairs]}


def test_images_of_a_directory_are_classified_in_batches(tmp_path: Path) -> None:
    for n in range(20):
        (tmp_path / f"{n:02}.png").write_bytes(b"cat" if n % 2 else b"dog")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "large.JPG").write_bytes(b"cat" + bytes(4 << 20))
    (tmp_path / "notes.txt").write_text("no image")
    server: Any = ImageServer()
    command._classify_images(server, 47, tmp_path, tmp_path / "out.csv", force=False)
    assert server.sizes == [16, 5]
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["predicted_label"] for row in rows] == ["d", "c"] * 10 + ["c"]
    assert rows[20] == {"file": str(tmp_path / "more" / "large.JPG"), "predicted_label": "c", "probability_c": "1.0",
                        "probability_d": "0.0"}  # fmt: skip


def test_an_image_that_cannot_be_sent_or_read_is_named(tmp_path: Path) -> None:
    server: Any = ImageServer()
    (tmp_path / "a.png").write_bytes(b"cat")
    (tmp_path / "b.png").write_bytes(b"broken")
    with pytest.raises(Invalid, match=r"b\.png: This image cannot be read"):
        command._classify_images(server, 47, tmp_path, None, force=False)
    (tmp_path / "b.png").write_bytes(bytes((5 << 20) + 1))
    with pytest.raises(Invalid, match=r"b\.png is empty or has more than 5 MiB"):
        command._classify_images(server, 47, tmp_path / "b.png", None, force=False)
    (tmp_path / "none").mkdir()
    for place, says in (("none", "has no images"), ("missing.png", "cannot be read: No such file")):
        with pytest.raises(Invalid, match=says):
            command._classify_images(server, 47, tmp_path / place, None, force=False)
    assert not list(tmp_path.glob("*predictions*"))
