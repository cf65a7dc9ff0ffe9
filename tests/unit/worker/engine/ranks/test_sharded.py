"""What each rank of a team computes, gathers and holds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore
from torch.distributed.device_mesh import init_device_mesh

from tests.support.tiny import lm as tiny_lm
from worker.engine.models.architecture import block_names
from worker.engine.ranks.sharded import shard
from worker.engine.ranks.team import Team


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", rank=0, world_size=1, store=FileStore(str(tmp_path / "meeting"), 1))
    yield
    dist.destroy_process_group()


def copies(model: torch.nn.Module) -> tuple[int, torch.Tensor]:
    """Number of autocast's copies of weights that are saved for the backward pass, and the loss."""
    saved: set[int] = set()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        base = tensor if tensor._base is None else tensor._base
        if base.ndim == 2 and base.dtype is torch.bfloat16 and "ToCopy" in type(base.grad_fn).__name__:
            saved.add(base.data_ptr())
        return tensor

    ids = torch.arange(6, 12)[None]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return len(saved), loss.detach()


@pytest.mark.usefixtures("alone")
def test_blocks_are_gathered_in_bfloat16_and_no_copy_is_saved() -> None:
    plain, rounded = (tiny_lm.model("llama").train() for _ in range(2))
    mesh, blocks = init_device_mesh("cpu", (1,)), block_names(plain)
    expected, loss = copies(shard(plain, blocks, mesh, bf16=False))
    got, same = copies(twin := shard(rounded, blocks, mesh, bf16=True))
    assert torch.equal(loss, same)
    assert expected >= 7 * len(blocks) and got <= 1, (expected, got)
    assert all(p.dtype is torch.float32 and p.grad is not None for p in twin.parameters())


def shares(world: int, batches: int) -> list[list[tuple[list[int], bool, bool]]]:
    step = [[n] * (n + 1) for n in range(batches)]
    return [[(list(s.indices), s.counts, s.last) for s in Team(rank, world).share(step)] for rank in range(world)]


def test_every_batch_counts_once_and_all_processes_compute_as_many() -> None:
    for world in (1, 2, 3, 4):
        for batches in range(1, 9):
            ranks = shares(world, batches)
            assert len({len(rank) for rank in ranks}) == 1
            counted = [tuple(indices) for rank in ranks for indices, counts, _last in rank if counts]
            assert sorted(counted) == sorted(tuple([n] * (n + 1)) for n in range(batches))
            assert all(
                [last for _indices, _counts, last in rank] == [*[False] * (len(rank) - 1), True] for rank in ranks
            )


def test_a_process_without_a_batch_adds_no_weight_and_a_single_one_changes_nothing() -> None:
    assert shares(2, 3) == [[([0], True, False), ([2, 2, 2], True, True)], [([1, 1], True, False), ([0], False, True)]]
    team, model = Team(), torch.nn.Linear(2, 2)
    assert shares(1, 2) == [[([0], True, False), ([1, 1], True, True)]]
    assert team.wrap(model, ["0"], torch.device("cpu"), bf16=False) == (model, model)
    assert team.factor(counts=True) is None
    values = torch.ones(3)
    assert team.sum(values) is values and team.agree(True) and not team.agree(False)
