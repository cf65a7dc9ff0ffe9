"""What a trainer writes of its predictions is what the pages read."""

from pathlib import Path
from typing import Any

import numpy as np

from app.domain.data.dataset import ChatRow, LabelledRow, PairRow, Row
from app.services.predictions import read
from worker.engine.data.batches import Examples
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
