"""`vezna predict`: a run's predictions for the rows of a CSV or JSONL file, over REST.

The file is read and written row by row, in batches of a request, and the new file has its name once it is complete.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Protocol

import typer

from app.cli.client import Client
from app.cli.shared import LOCAL, Force, Url, errors, new_file, say
from app.domain.data.guesses.written_lists import read_list
from app.domain.errors import Invalid
from app.domain.tasks import TASKS
from app.features.serving.cli import predict_images
from app.features.serving.rules import MOST_GENERATED, MOST_INPUTS
from app.words.format import count
from app.words.i18n import gettext as _
from app.words.i18n import ngettext

COLUMNS = ("text", "prompt", "messages", "tokens")
"""Names of the column with the input, if it is not given: the first that the file has. A model that tags words reads
`tokens` before the others: the words that it was evaluated with."""
LABEL, PROBABILITY, TEXT = "predicted_label", "probability_", "generated_text"
ENTITIES, TAGGED = "predicted_entities", "predicted_words"
BATCH = 64
BATCH_BYTES = 4 << 20
"""Of the inputs of a request: half of what a server takes."""
NUMBER_LIMIT = 2**31 - 1
PREDICT_SECONDS = 1800.0

Row = dict[str, Any]


class Writer(Protocol):
    """Writes rows in a format."""

    def write(self, row: Mapping[str, Any]) -> None: ...


def predict(
    run: Annotated[int, typer.Argument(metavar="RUN", help="Number of the run.")],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV, TSV or JSONL, with a column of texts; of a classifier of images an image or a directory.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The new file. Default: FILE with -predictions in its name.")
    ] = None,
    column: Annotated[
        str, typer.Option(help="Column with the input. Default: text, prompt, messages or tokens, whichever there is.")
    ] = "",
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Truncate inputs that are too long, as the evaluation does.")
    ] = False,
    max_new_tokens: Annotated[int | None, typer.Option(help="Default: as the run's evaluation.")] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy, as the run's evaluation.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of sampling; used with a temperature.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=MOST_INPUTS, help="Rows of a request.")] = BATCH,
    force: Force = False,
    url: Url = LOCAL,
) -> None:
    """Predict with a run's model for every row of a file: the same rows in the same order, with the label and the
    probability of each label, the entities, or the generated text."""
    client = Client(url)
    batch = min(batch, max(1, MOST_GENERATED // (max_new_tokens or 1)))
    task = client.get(f"/runs/{run}")["spec"]["task"]
    if TASKS[task].reads == "images":
        _classify_images(client, run, file, output, force=force)
        return
    tags = TASKS[task].output == "tags"
    target = new_file(output or file.with_name(f"{file.stem}-predictions{file.suffix}"), force=force)
    decoding = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    rows = 0
    with _reading(file) as source, _written_whole(target) as sink:
        writer: Writer | None = None
        for several in _batches(file, source, column, batch, tags=tags):
            body = {"inputs": [value for _row, value in several], "decoding": decoding, "truncate": truncate}
            for (row, _value), prediction in zip(several, _predicted(client, run, body, file, rows), strict=True):
                added = _columns(prediction, nested=file.suffix == ".jsonl")
                if taken := added.keys() & row.keys():
                    raise Invalid(
                        _("%(file)s already has a column %(taken)s. Rename it first.", file=file, taken=min(taken))
                    )
                if writer is None:
                    writer = _writer(file, sink, [*row, *added])
                writer.write(row | added)
            rows += len(several)
            say(counted(rows), to=errors)
        if not rows:
            raise Invalid(_("%(file)s has no rows.", file=file))
    say(_("Wrote %(target)s, %(rows)s.", target=target, rows=counted(rows)), wrap=False)


def _classify_images(client: Client, run: int, path: Path, output: Path | None, *, force: bool) -> None:
    images = predict_images.images_of(path)
    target = new_file(output or path.with_name(f"{path.stem}-predictions.csv"), force=force)
    found: list[Row] = []
    for batch in predict_images.batches(images):
        found += predict_images.predictions(client, run, batch, PREDICT_SECONDS)
        say(counted(len(found)), to=errors)
    with _written_whole(target) as sink:
        predict_images.write(sink, images, found)
    say(_("Wrote %(target)s, %(rows)s.", target=target, rows=counted(len(found))), wrap=False)


@contextmanager
def _written_whole(target: Path) -> Iterator[IO[str]]:
    """A file that takes its place once all of it is written and on the disk."""
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def counted(rows: int) -> str:
    """`1,200 rows`."""
    return ngettext("%(count)s row", "%(count)s rows", rows, count=count(rows))


def _batches(
    file: Path, rows: Iterator[Row], column: str, most: int, *, tags: bool = False
) -> Iterator[list[tuple[Row, Any]]]:
    """Rows with their inputs, as many as a request takes: `most`, and `BATCH_BYTES` unless a single one is longer.
    `tags`: for a model that tags words."""
    batch: list[tuple[Row, Any]] = []
    size = 0
    for number, row in enumerate(rows, 1):
        column = column or _column(file, row, tags=tags)
        value = _input(file, number, row, column)
        value = _words(value, split=column == "tokens") if tags and isinstance(value, str) else value
        length = len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        if batch and (len(batch) == most or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((row, value))
        size += length
    if batch:
        yield batch


def _predicted(client: Client, run: int, body: Row, file: Path, before: int) -> list[Row]:
    """The predictions of a batch; an error names the rows of the file. `before`: rows in earlier batches."""
    try:
        predictions: list[Row] = client.ask(f"/runs/{run}/predict", body, PREDICT_SECONDS)["predictions"]
    except Invalid as error:
        lines = []
        for field in error.fields:
            kind, _dot, place = field.path.partition(".")
            where = (
                _("%(file)s, row %(number)s", file=file, number=before + int(place.split(".")[0]) + 1)
                if kind == "inputs" and place
                else field.path
            )
            lines.append(f"{where}: {field.sentence}")
        raise Invalid("\n".join(lines) or error.message) from error
    return predictions


def _columns(prediction: Row, *, nested: bool) -> Row:
    """The new columns; in a JSONL file the probabilities are one object, and each word has its tag."""
    if "entities" in prediction:
        entities: list[Row] = prediction["entities"]
        if nested:
            return {ENTITIES: entities, TAGGED: prediction["words"]}
        return {ENTITIES: json.dumps(entities, ensure_ascii=False)}
    if "label" not in prediction:
        return {TEXT: prediction["text"]}
    probabilities: dict[str, float] = prediction["probabilities"]
    if nested:
        return {LABEL: prediction["label"], "probabilities": probabilities}
    return {LABEL: prediction["label"]} | {f"{PROBABILITY}{label}": p for label, p in probabilities.items()}


def _words(text: str, *, split: bool) -> str | list[str]:
    """The words of a list that is written in a cell; with `split`, of any other text those between white space."""
    listed = read_list(text)
    if listed and all(isinstance(word, str) for word in listed):
        return listed
    return text.split() if split else text


def _column(file: Path, row: Row, *, tags: bool) -> str:
    for name in sorted(COLUMNS, key=lambda name: tags and name != "tokens"):
        if name in row:
            return name
    raise Invalid(
        _(
            "%(file)s has none of the columns %(columns)s. Name the one with the input: --column NAME.",
            file=file,
            columns=", ".join(COLUMNS),
        )
    )


def _input(file: Path, number: int, row: Row, column: str) -> Any:
    value = row.get(column)
    if column not in row:
        raise Invalid(
            _(
                "%(file)s, row %(number)s has no column %(column)s. Its columns are %(columns)s.",
                file=file,
                number=number,
                column=column,
                columns=", ".join(row),
            )
        )
    if not isinstance(value, str | list):
        raise Invalid(
            _(
                "%(file)s, row %(number)s: %(column)s is neither a text nor a list of messages or words.",
                file=file,
                number=number,
                column=column,
            )
        )
    return value


@contextmanager
def _reading(file: Path) -> Iterator[Iterator[Row]]:
    """The rows of a file. Raises Invalid for an unknown kind of file, and for one that is not of its kind."""
    if file.suffix not in (".csv", ".tsv", ".jsonl"):
        raise Invalid(_("%(file)s is of an unknown kind. Use .csv, .tsv or .jsonl.", file=file))
    with file.open(encoding="utf-8-sig", newline="") as lines:
        yield _jsonl(file, lines) if file.suffix == ".jsonl" else _delimited(file, lines)


def _delimited(file: Path, lines: IO[str]) -> Iterator[Row]:
    csv.field_size_limit(NUMBER_LIMIT)
    try:
        reader = csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ",", strict=True)
        for number, row in enumerate(reader, 1):
            if None in row or None in row.values():
                raise Invalid(
                    _(
                        "%(file)s, row %(number)s does not have the %(columns)s columns of its head.",
                        file=file,
                        number=number,
                        columns=len(reader.fieldnames or ()),
                    )
                )
            yield dict(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise Invalid(
            _("%(file)s cannot be read: %(error)s. Save it as CSV in UTF-8.", file=file, error=error)
        ) from error


def _jsonl(file: Path, lines: IO[str]) -> Iterator[Row]:
    try:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise Invalid(_("%(file)s, line %(number)s is not a JSON object.", file=file, number=number))
            yield row
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Invalid(
            _("%(file)s cannot be read: %(error)s. Write one JSON object a line, in UTF-8.", file=file, error=error)
        ) from error


class _Jsonl:
    def __init__(self, sink: IO[str]) -> None:
        self._sink = sink

    def write(self, row: Mapping[str, Any]) -> None:
        self._sink.write(json.dumps(row, ensure_ascii=False) + "\n")


class _Delimited:
    def __init__(self, sink: IO[str], names: list[str], delimiter: str) -> None:
        self._writer = csv.DictWriter(sink, names, delimiter=delimiter, lineterminator="\n")
        self._writer.writeheader()

    def write(self, row: Mapping[str, Any]) -> None:
        self._writer.writerow(row)


def _writer(file: Path, sink: IO[str], names: list[str]) -> Writer:
    return _Jsonl(sink) if file.suffix == ".jsonl" else _Delimited(sink, names, "\t" if file.suffix == ".tsv" else ",")
