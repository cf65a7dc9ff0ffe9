"""What a trainer writes of its predictions is what the pages read."""

from pathlib import Path
from typing import Any

import numpy as np

from app.domain.data.dataset import ChatRow, LabelledRow, PairRow, PreferenceChatRow, Row
from app.services.runs.predictions import read
from worker.engine.data.batches.batches import Examples
from worker.engine.evaluation.evaluate import Predictions
from worker.engine.saving.artifacts import write_predictions


def file(tmp_path: Path, rows: list[Row], labels: list[str], columns: dict[str, Any], **per_item: Any) -> Path:
    """A predictions file of both models alike."""
    answers = Predictions(0.5, {}, {name: np.asarray(v) for name, v in per_item.items()}, columns)  # type: ignore[misc]
    examples = Examples(rows=rows, targets=[], lengths=[1] * len(rows))
    write_predictions(tmp_path / "predictions.parquet", examples, labels, answers, answers)
    return tmp_path / "predictions.parquet"


def test_labelled_answers_are_read_with_two_probabilities(tmp_path: Path) -> None:
    rows: list[Row] = [LabelledRow("a", "test", "good", 1), LabelledRow("b", "test", "bad", 0)]
    columns = {"prediction": [1, 1], "scores": [[0.2, 0.8], [0.4, 0.6]]}
    with file(tmp_path, rows, ["no", "yes"], columns, accuracy=[1.0, 0.0]).open("rb") as opened:
        found = read(opened)
    assert found.labels == ("no", "yes")
    assert found.table.column("text").to_pylist() == ["good", "bad"]
    assert [found.at("answer", row) for row in (0, 1)] == [1, 1]
    assert np.allclose(found.column("sure"), [0.8, 0.6])  # type: ignore[arg-type]
    assert np.allclose(found.column("of_label"), [0.8, 0.4])  # type: ignore[arg-type]
    assert np.allclose(found.column("base_accuracy"), [1, 0])  # type: ignore[arg-type]


def test_written_answers_and_what_was_wanted(tmp_path: Path) -> None:
    rows: list[Row] = [PairRow("a", "test", "Say hello", "hello")]
    with file(tmp_path, rows, [], {"prediction": ["hallo"]}, rouge_l=[0.0]).open("rb") as opened:
        found = read(opened)
    assert (found.at("text", 0), found.at("wanted", 0), found.at("answer", 0)) == ("Say hello", "hello", "hallo")
    assert found.at("sure", 0) is None
    with (tmp_path / "predictions.parquet").open("rb") as opened:
        assert read(opened, texts=False).at("text", 0) is None


def test_conversations_are_written_a_turn_a_line(tmp_path: Path) -> None:
    turns: Any = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]
    rows: list[Row] = [ChatRow("a", "test", turns)]
    with file(tmp_path, rows, [], {}, token_accuracy=[0.5]).open("rb") as opened:
        found = read(opened)
    assert found.at("text", 0) == "user: Hello?\nassistant: Yes."
    assert found.at("asked", 0) == "user: Hello?", "what a rater sees of it"
    assert found.at("answer", 0) is None


TOOLS = '[{"type": "function", "function": {"name": "weather"}}]'
CALLS = '{"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {}}}]}'


def test_conversations_keep_what_the_model_was_asked_with_its_tools(tmp_path: Path) -> None:
    turns: Any = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "more": CALLS},
        {"role": "tool", "content": "12 °C"},
        {"role": "assistant", "content": "It is 12 °C."},
    ]
    with file(tmp_path, [ChatRow("a", "test", turns, TOOLS)], [], {}, token_accuracy=[0.5]).open("rb") as opened:
        found = read(opened)
    assert found.at("asked", 0) == f"user: Weather?\nassistant: {CALLS}\ntool: 12 °C\ntools: {TOOLS}"
    assert [(turn["role"], turn["more"]) for turn in found.at("turns", 0)] == [
        ("user", None), ("assistant", CALLS), ("tool", None)
    ]  # fmt: skip
    assert found.at("tools", 0) == TOOLS


def test_a_preferred_call_is_what_was_wanted_and_all_turns_were_asked(tmp_path: Path) -> None:
    turns: Any = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = PreferenceChatRow("a", "test", turns, "", "no", None, CALLS)
    answers = {"prediction": [row.answers[0]]}
    with file(tmp_path, [row], [], answers, preference_accuracy=[1.0]).open("rb") as opened:
        found = read(opened)
    assert found.at("wanted", 0) == found.at("answer", 0) == CALLS
    assert found.at("asked", 0) == "user: a\nassistant: b" and len(found.at("turns", 0)) == 2
