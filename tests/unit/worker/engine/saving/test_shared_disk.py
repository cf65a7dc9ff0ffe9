"""What the ranks of a run write to the disk that they share."""

import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from app.domain.failures import FailureCode, RunFailed
from app.domain.runs.result import Evaluation
from worker.engine.ranks.team import Team
from worker.engine.saving import resumable
from worker.engine.saving.best_weights import BestCheckpoint
from worker.engine.saving.resume import Checkpoints


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
def test_best_weights_need_room_for_the_parts_of_all_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
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
