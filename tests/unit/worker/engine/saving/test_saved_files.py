"""Files of a run: predictions as they are read back, and room for the parts of all ranks."""

import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from app.domain.data.dataset import ChatRow, LabelledRow, PairRow, PreferenceChatRow, Row
from app.domain.failures import FailureCode, RunFailed
from app.domain.runs.result import Evaluation
from app.services.runs.predictions import read
from worker.engine.data.batches.batches import Examples
from worker.engine.evaluation.evaluate import Predictions
from worker.engine.ranks.team import Team
from worker.engine.saving import resumable
from worker.engine.saving.artifacts import write_predictions
from worker.engine.saving.best_weights import BestCheckpoint
from worker.engine.saving.resume import Checkpoints


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


class Ranked(Team):
    """A rank whose decisions are those of all."""

    def __init__(self, rank: int, sharded: bool) -> None:
        super().__init__(rank, 2)
        self._sharded = sharded

    @property
    def sharded(self) -> bool:
        return self._sharded

    def agree(self, stop: bool) -> bool:
        return stop


@pytest.mark.parametrize("sharded", [False, True], ids=["replicas", "sharded"])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_size_of_a_checkpoint_counts_the_parts_of_all_ranks(tmp_path: Path, rank: int, sharded: bool) -> None:
    model = torch.nn.Linear(2, 2)
    named, optimizer = dict(model.named_parameters()), torch.optim.AdamW(model.parameters())
    alone = Checkpoints(tmp_path).expected_bytes(named, optimizer)
    together = Checkpoints(tmp_path, Ranked(rank, sharded)).expected_bytes(named, optimizer)
    assert alone > 0 and together == (2 if sharded else 1) * alone


@pytest.mark.parametrize("sharded", [False, True], ids=["replicas", "sharded"])
def test_best_weights_need_room_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool) -> None:
    model = torch.nn.Linear(2, 2)
    usage = shutil.disk_usage(tmp_path)._replace(free=2 * 4 * (2 * 2 + 2))
    monkeypatch.setattr("worker.engine.saving.best_weights.shutil.disk_usage", lambda directory: usage)
    if not sharded:
        assert not BestCheckpoint(tmp_path, model, "loss", Ranked(0, sharded)).stored
        return
    with pytest.raises(RunFailed) as failed:
        BestCheckpoint(tmp_path, model, "loss", Ranked(0, sharded))
    assert failed.value.code is FailureCode.DISK_FULL


@pytest.mark.parametrize("rank", [0, 1])
def test_of_replicas_rank_0_alone_keeps_the_best_weights(tmp_path: Path, rank: int) -> None:
    model = torch.nn.Linear(2, 1)
    best = BestCheckpoint(tmp_path, model, "loss", Ranked(rank, sharded=False))
    evaluation = Evaluation(
        subject="adapted", split="validation", step=1, epoch=1, n=10, loss=1.0, metric="accuracy", metrics={}
    )
    before = model.weight.tolist()
    best.consider(evaluation, last=False)
    assert best.stored == best.file.exists() == (rank == 0) and best.step == 1
    with torch.no_grad():
        model.weight.fill_(7)
    best.restore()
    assert model.weight.tolist() == (before if rank == 0 else [[7.0, 7.0]])
    best.resume(evaluation, 0, lambda file: file.touch())
    assert best.stored == best.file.exists() == (rank == 0)


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_0_alone_measures_how_fast_the_disk_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setattr(resumable, "LARGE", 1)
    measured: list[int] = []

    def seconds(checkpoints: Checkpoints, size: int) -> float:
        measured.append(size)
        return 0.0

    monkeypatch.setattr(Checkpoints, "seconds", seconds)
    model, team = torch.nn.Linear(2, 2), Ranked(rank, sharded=True)
    optimizer, best = torch.optim.AdamW(model.parameters()), BestCheckpoint(tmp_path, model, "loss", team)
    named, cpu, unused = dict(model.named_parameters()), torch.device("cpu"), cast(Any, None)
    state = resumable.Resumable(
        named, optimizer, None, best, unused, unused, cpu, tmp_path, bf16=False, order="", team=team
    )
    state.check_time(15.0)
    own = 4 * (2 * 2 + 2)
    assert measured == ([2 * (2 * own + 2 * own)] if rank == 0 else [])
