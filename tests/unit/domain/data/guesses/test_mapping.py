"""A guess at which column is which, and what does not fit."""

import pytest
from pydantic import ValidationError

from app.domain.data.guesses.guesses import guess_mapping
from app.domain.data.guesses.mapping import Column, ColumnMapping


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
