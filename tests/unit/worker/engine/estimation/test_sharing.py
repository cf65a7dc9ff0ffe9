"""What a device holds of a model that several share, compared with torch's own account of FSDP2 (`FSDPMemTracker`)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.testing._internal.distributed.fake_pg import FakeStore

from app.domain.methods import FullSpec, LoraSpec
from app.domain.resources.estimate import EstimateRequest
from tests.support.tiny import lm as tiny_lm
from tests.unit.worker.engine.estimation.test_estimate import TWO_STEPS
from worker.engine.data.batches.batches import Batch
from worker.engine.estimation.estimate import estimate_run
from worker.engine.estimation.shapes import shapes
from worker.engine.estimation.unloaded import unloaded
from worker.engine.loop.step import optimizer_of
from worker.engine.ranks.team import Team
from worker.engine.tasks import TASKS

FOUR_BLOCKS = {"hidden_size": 128, "intermediate_size": 512, "vocab_size": 512, "num_hidden_layers": 4}


@pytest.fixture
def pretended(request: pytest.FixtureRequest) -> Iterator[Team]:
    """Rank 0 of processes that do not exist: collective operations return at once."""
    dist.init_process_group("fake", rank=0, world_size=request.param, store=FakeStore())
    yield Team(0, request.param)
    dist.destroy_process_group()


def request_of(location: Path, devices: int, rows: int, *, bf16: bool = False) -> EstimateRequest:
    changes = {
        "devices": devices,
        "gradient_accumulation_steps": devices,
        "max_length": 16,
        "per_device_train_batch_size": rows,
    }
    return EstimateRequest(
        location=str(location),
        task="causal-lm",
        labels=1,
        method=FullSpec(),
        training=TWO_STEPS.model_copy(update=changes),
        device="cpu",
        bf16=bf16,
    )


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize("pretended", [2, 4], indirect=True, ids=lambda world: f"{world} devices")
@pytest.mark.parametrize("rows", [1, 64], ids=["peak within the blocks", "peak before them"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_a_shared_model_is_estimated_as_torch_counts_it(
    pretended: Team, rows: int, tied: bool, bf16: bool, tmp_path: Path
) -> None:
    shape = FOUR_BLOCKS | {"tie_word_embeddings": tied}
    request = request_of(tiny_lm.save_model(tmp_path, "llama", **shape), pretended.world, rows, bf16=bf16)
    built = unloaded(request)
    batch = shapes(request, None, built.base).heaviest[0]
    model = tiny_lm.model("llama", **shape)
    trained = pretended.wrap(model, built.facts.blocks, torch.device("cpu"), bf16=bf16).trained.train()
    expected = counted(trained, batch, bf16)
    found = estimate_run(request, None).ledger
    # autocast rounds the output projection, which is not in a block, and keeps the copy until its backward pass
    of_head = 2 * 512 * 128 if bf16 and rows == 64 else 0
    assert found.total == pytest.approx(expected["Total"], rel=0.06 if bf16 else 0.02)
    assert found.owners["weights"] == pytest.approx(expected["Sharded Param"] + of_head, rel=0.03)
    assert found.owners["optimizer"] == pytest.approx(expected["OptState"], rel=0.03)
    assert (found.owners["communication"] > found.owners["weights"]) is (
        rows == 1 and (not bf16 or pretended.world == 4)
    )


def counted(model: torch.nn.Module, batch: Batch, bf16: bool) -> dict[str, int]:
    """Bytes on this device by torch's kinds, at the peak of the second step."""
    optimizer = optimizer_of(FullSpec(), dict(model.named_parameters()), 1e-3, 0.0)
    with FSDPMemTracker(model, optimizer) as tracker:
        for _step in range(2):
            tracker.reset_mod_stats()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = TASKS["causal-lm"].loss(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    (found,) = tracker.get_tracker_snapshot("peak").values()
    return {getattr(kind, "value", kind): size for kind, size in found.items()}


@pytest.mark.nightly
def test_each_device_does_a_part_of_the_work_and_holds_a_part_of_the_model(tmp_path: Path) -> None:
    location = tiny_lm.save_model(tmp_path, "llama", **FOUR_BLOCKS)
    alone, shared = (estimate_run(request_of(location, devices, 1), None) for devices in (1, 4))
    assert shared.ledger.owners["optimizer"] == pytest.approx(alone.ledger.owners["optimizer"] / 4, rel=0.01)
    assert alone.ledger.owners["communication"] == 0
    replicas = estimate_run(request_of(location, 4, 1).model_copy(update={"method": LoraSpec()}), None)
    assert replicas.ledger.owners["communication"] == 0
    one = request_of(location, 1, 1).model_copy(update={"method": LoraSpec()})
    assert replicas.ledger.owners["weights"] == estimate_run(one, None).ledger.owners["weights"]
