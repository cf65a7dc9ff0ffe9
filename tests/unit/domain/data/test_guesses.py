"""What an upload's columns mean: guessed from values, and by names and kinds."""

import csv
import io
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.domain.data.guesses.guessed_names import dataset_name, guess_splitting, split_in_name
from app.domain.data.guesses.guesses import guess_mapping
from app.domain.data.guesses.mapping import Column, ColumnMapping
from app.domain.data.uploads import SourceScan
from tests.support.ingested import scanned

ROWS = 200
WORDS = [
    "the", "drug", "helped", "me", "sleep", "but", "gave", "terrible", "headaches", "so", "my", "doctor", "changed",
    "dose", "after", "two", "weeks", "of", "pain",
]  # fmt: skip

Values = Callable[[random.Random, int], str]


def text(chance: random.Random, row: int) -> str:
    return f"{' '.join(chance.choices(WORDS, k=chance.randint(8, 40)))} {row}"


def short_text(chance: random.Random, row: int) -> str:
    return f"{' '.join(chance.choices(WORDS, k=4))} {row}"


def one_of(*values: str) -> Values:
    return lambda chance, row: chance.choice(values)


def number(least: int, most: int) -> Values:
    return lambda chance, row: str(chance.randint(least, most))


def date(chance: random.Random, row: int) -> str:
    return f"2012-{chance.randint(1, 3):02}-{chance.randint(1, 3):02}"


def written_date(chance: random.Random, row: int) -> str:
    return f"May {chance.randint(1, 9)}, 2012"


def row_number(chance: random.Random, row: int) -> str:
    return str(row)


POLARITY = one_of("positive", "neutral", "negative")


def scan_of(folder: Path, columns: Mapping[str, Values], rows: int = ROWS) -> SourceScan:
    chance, file = random.Random(0), io.StringIO()
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([values(chance, row) for values in columns.values()] for row in range(rows))
    return scanned(folder, file.getvalue().encode())


@pytest.mark.parametrize(
    ("columns", "mapped"),
    [
        ({"review": text, "rating": POLARITY}, ("review", "rating")),
        (
            {
                "": row_number,
                "drugName": one_of(*(f"drug {n}" for n in range(40))),
                "condition": one_of(*(f"condition {n}" for n in range(20))),
                "review": text,
                "rating": number(1, 10),
                "date": written_date,
                "usefulCount": number(0, 90),
            },
            ("review", "rating"),
        ),
        ({"review": text, "rating": lambda chance, row: f"{chance.randint(1, 5)}.0"}, ("review", "rating")),
        ({"id": row_number, "review": text, "stars": number(1, 5)}, ("review", "stars")),
        ({"a": text, "b": POLARITY}, ("a", "b")),
        ({"b": number(0, 1), "a": text}, ("a", "b")),
        ({"a": text, "b": one_of("true", "false"), "when": date}, ("a", "b")),
        ({"Review Text": text, "Recommended IND": number(0, 1)}, ("Review Text", "Recommended IND")),
        ({"title": short_text, "body": text, "section": one_of("sport", "tech")}, ("body", "section")),
        ({"tweet_text": text, "airline_sentiment": POLARITY, "airline": one_of(*"abcd")}, None),
        ({"text": text, "lang": one_of("en", "de"), "label": POLARITY}, ("text", "label")),
    ],
)
def test_a_column_with_few_values_beside_a_long_text_is_the_label(
    tmp_path: Path, columns: Mapping[str, Values], mapped: tuple[str, str] | None
) -> None:
    text_column, label = mapped or ("tweet_text", "airline_sentiment")
    scan = scan_of(tmp_path, columns)
    assert scan.mapping is not None, scan.reason
    assert (scan.mapping.format, scan.mapping.columns) == ("labelled", {"text": text_column, "label": label})
    assert text_column in scan.reason and label in scan.reason


@pytest.mark.parametrize(
    "other",
    [
        {"id": row_number},
        {"date": date},
        {"posted": written_date},
        {"created": lambda chance, row: f"2012-01-0{chance.randint(1, 4)}T10:00:00"},
        {"year": number(2010, 2014)},
        {"comment": short_text},
        {"likes": number(0, 500)},
        {"lang": one_of("en", "de")},
        {"source": one_of("web", "app")},
        {"set": one_of("train", "test")},
        {"constant": one_of("x")},
        {"price": lambda chance, row: f"{chance.uniform(1, 90):.2f}"},
    ],
)
def test_ids_dates_counts_and_free_texts_are_no_labels(tmp_path: Path, other: Mapping[str, Values]) -> None:
    scan = scan_of(tmp_path, {"review": text} | other)
    assert scan.mapping is not None, scan.reason
    assert (scan.mapping.format, scan.mapping.columns) == ("text", {"text": "review"})


@pytest.mark.parametrize(
    ("name", "labels", "sentence"),
    [
        ("labels", lambda chance, row: '["joy", "anger"]' if row % 2 else '["joy"]', "multi-label is not supported"),
        ("score", lambda chance, row: f"{chance.uniform(0, 5):.3f}", "regression is not supported"),
        ("label", lambda chance, row: f"{chance.uniform(0, 5):.3f}", "regression is not supported"),
    ],
)
def test_several_labels_are_no_unlabelled_dataset(tmp_path: Path, name: str, labels: Values, sentence: str) -> None:
    scan = scan_of(tmp_path, {"text": text, name: labels})
    assert scan.mapping is None
    assert sentence in scan.reason and name in scan.reason


def test_half_stars_are_labels_and_ambiguous_columns_are_left_to_the_reader(tmp_path: Path) -> None:
    scan = scan_of(tmp_path, {"text": text, "rating": lambda chance, row: f"{chance.randint(1, 10) / 2}"})
    assert scan.mapping is not None and scan.mapping.columns["label"] == "rating"
    scan = scan_of(tmp_path, {"review": text, "verdict": one_of("a", "b"), "tone": one_of("c", "d", "e")})
    assert scan.mapping is not None
    assert scan.mapping.format == "text"
    assert "verdict" in scan.reason and "tone" in scan.reason
    scan = scan_of(tmp_path, {"first": text, "second": text, "same": one_of("0", "1")})
    assert scan.mapping is None
    scan = scan_of(tmp_path, {"name": short_text, "colour": one_of("red", "blue")})
    assert scan.mapping is None


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("drugsComTrain.tsv", "train"),
        ("drugsComTest.tsv", "test"),
        ("TestSet-v2", "test"),
        ("my_valid", "validation"),
        ("TRAIN.CSV", "train"),
        ("HTMLTest.json", "test"),
        ("reviews.dev.jsonl", "validation"),
        ("imdbValidationSplit.csv", "validation"),
        ("trainset.csv", "train"),
        ("train2.csv", "train"),
        ("2017val", "validation"),
        ("reuters-r8-train.csv", "train"),
        ("testing", "test"),
        ("evaluation.parquet", "test"),
        ("latest.csv", None),
        ("constrain.csv", None),
        ("attestation.csv", None),
        ("developer.csv", None),
        ("Contest.csv", None),
        ("protest.csv", None),
        ("trainer.csv", None),
        ("réval.csv", None),
        ("invalid.csv", None),
        ("train-or-test.csv", None),
        ("TrainTest.csv", None),
    ],
)
def test_splits_are_recognised_in_names(name: str, split: str | None) -> None:
    assert split_in_name(name) == split


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("my reviews-train.csv", "my-reviews"),
        ("drugsComTrain.tsv", "drugsCom"),
        ("train.csv", "train"),
        ("a_train_b.csv", "a_b"),
        ("train-reviews.csv", "reviews"),
        ("TestSet-v2.csv", "v2"),
        ("latest.csv", "latest"),
    ],
)
def test_a_dataset_is_named_after_its_file_without_the_split(file: str, name: str) -> None:
    assert dataset_name(file) == name


def test_splits_come_from_files_or_from_a_column_with_known_values() -> None:
    assert guess_splitting(["train", "test"], []).names == {"train": ["train"], "test": ["test"]}
    assert guess_splitting(["train", "extra"], []).kind == "random"
    told = Column(name="Split", kind="text", distinct=2, values={"train": 3, "dev": 1})
    found = guess_splitting([""], [told])
    assert (found.column, found.names) == ("Split", {"train": ["train"], "validation": ["dev"]})
    columns = [Column(name="x", kind="text"), Column(name="y", kind="text")]
    assert guess_mapping(columns, 10).mapping is None


@pytest.mark.parametrize(
    ("columns", "mapped", "reason"),
    [
        ({"query": short_text, "passage": text}, ("query", "passage"), "Assigned by the names of the columns"),
        ({"anchor": short_text, "positive": text, "negative": text}, ("anchor", "positive"), "Vezna ignores negative"),
        ({"question": short_text, "document": text}, ("question", "document"), "Assigned by the names"),
    ],
)
def test_a_query_beside_a_passage_is_for_retrieval(
    tmp_path: Path, columns: Mapping[str, Values], mapped: tuple[str, str], reason: str
) -> None:
    scan = scan_of(tmp_path, columns)
    assert scan.mapping is not None
    assert (scan.mapping.format, scan.mapping.columns) == (
        "query-passage",
        dict(zip(("query", "passage"), mapped, strict=True)),
    )
    assert reason in scan.reason


def test_with_an_answer_or_a_label_a_passage_is_not_what_a_query_should_find(tmp_path: Path) -> None:
    for name in ("answered", "judged"):
        (tmp_path / name).mkdir()
    answered = scan_of(tmp_path / "answered", {"question": short_text, "context": text, "answer": short_text})
    judged = scan_of(tmp_path / "judged", {"query": short_text, "passage": text, "label": number(0, 1)})
    assert answered.mapping is not None and answered.mapping.format == "prompt-completion"
    assert judged.mapping is None or judged.mapping.format != "query-passage"


def column(name: str, kind: str = "text", distinct: int | None = None, longest: int = 50) -> Column:
    return Column.model_validate({"name": name, "kind": kind, "distinct": distinct, "longest": longest})


@pytest.mark.parametrize(
    ("columns", "form", "mapped"),
    [
        ([column("text"), column("label", distinct=2)], "labelled", {"text": "text", "label": "label"}),
        ([column("label", "integer", 4), column("Text ")], "labelled", {"text": "Text ", "label": "label"}),
        (
            [column("id", "integer"), column("review"), column("stars", "integer", 5)],
            "labelled",
            {"text": "review", "label": "stars"},
        ),
        (
            [column("a"), column("b", longest=900), column("topic", distinct=8)],
            "labelled",
            {"text": "b", "label": "topic"},
        ),
        ([column("question"), column("answer")], "prompt-completion", {"prompt": "question", "completion": "answer"}),
        (
            [column("instruction"), column("input"), column("output")],
            "prompt-completion",
            {"prompt": "instruction", "context": "input", "completion": "output"},
        ),
        (
            [column("id"), column("context"), column("question"), column("answer")],
            "prompt-completion",
            {"prompt": "question", "context": "context", "completion": "answer"},
        ),
        ([column("messages", "list")], "messages", {"messages": "messages"}),
        ([column("conversations", "list"), column("id")], "messages", {"messages": "conversations"}),
        (
            [column("prompt", "list"), column("completion", "list")],
            "messages",
            {"prompt": "prompt", "completion": "completion"},
        ),
        ([column("anything")], "text", {"text": "anything"}),
        ([column("text"), column("url")], "text", {"text": "text"}),
    ],
)
def test_columns_are_known_by_their_names_and_kinds(columns: list[Column], form: str, mapped: dict[str, str]) -> None:
    found = guess_mapping(columns, 1000)
    assert found.mapping is not None, found.reason
    assert (found.mapping.format, found.mapping.columns) == (form, mapped)
    assert list(found.mapping.problems([one.name for one in columns])) == []
    assert found.reason.endswith(".")


def test_what_is_not_known_is_not_guessed() -> None:
    found = guess_mapping([column("x"), column("y")], 1000)
    assert found.mapping is None
    assert "x, y" in found.reason


@pytest.mark.parametrize(
    ("mapping", "paths"),
    [
        (ColumnMapping(format="labelled"), ["mapping.columns.text", "mapping.columns.label"]),
        (ColumnMapping(format="labelled", columns={"text": "a", "label": "a"}), ["mapping.columns.label"]),
        (ColumnMapping(format="text", columns={"text": "a", "label": "b"}), ["mapping.columns.label"]),
        (ColumnMapping(format="text", columns={"text": "z"}), ["mapping.columns.text"]),
        (ColumnMapping(format="messages", columns={"prompt": "a"}), ["mapping.columns.completion"]),
        (ColumnMapping(format="messages", columns={"messages": "a", "prompt": "b"}), ["mapping.columns"]),
        (ColumnMapping(format="text", columns={"text": "a"}, label_names={"0": "no"}), ["mapping.label_names"]),
    ],
)
def test_what_does_not_fit_is_named_by_field(mapping: ColumnMapping, paths: list[str]) -> None:
    assert [problem.path for problem in mapping.problems(["a", "b"])] == paths


@pytest.mark.parametrize(
    "spoilt",
    [
        {"columns": {"text": "a\0"}},
        {"columns": {"text": "\ud800"}},
        {"label_names": {"a\0": "b"}},
        {"label_names": {"\ud800": "b"}},
        {"label_names": {"a": "b\nc"}},
    ],
)
def test_a_text_that_no_database_keeps_is_refused(spoilt: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"cannot be (stored|printed)"):
        ColumnMapping.model_validate({"format": "labelled"} | spoilt)


def test_values_and_columns_are_named_as_they_are() -> None:
    kept = ColumnMapping(format="labelled", columns={"text": " Text\t"}, label_names={" yes\n": "yes"})
    assert (kept.columns, kept.label_names) == ({"text": " Text\t"}, {" yes\n": "yes"})
