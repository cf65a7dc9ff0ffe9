"""What only a CUDA device shows. Skipped where there is none."""

from pathlib import Path

import pytest
import torch

from app.domain.methods import FullSpec, LastLayersSpec, LoraSpec, MethodSpec
from app.domain.runs.result import RunResult
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.progress import Stopped

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
LORA = LoraSpec(r=4, target_modules=["query", "value"])
UPPER = LastLayersSpec(layers=1)


def run(
    directory: Path, base: Path, method: MethodSpec, sink: tiny.Recorder, resume: Path | None = None, **training: object
) -> RunResult:
    """On the device."""
    job = tiny.job(directory, base, method, tiny.FAST.model_copy(update=training))
    update = {"device": "cuda", "cache": str(directory.parent / "cache"), "cache_bytes": 10**8}
    update |= {"resume": str(resume) if resume else None}
    return Attempt(job.model_copy(update=update), sink).run()


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("method", [FullSpec(), LORA, UPPER], ids=lambda method: method.kind)
def test_a_run_learns_and_its_memory_is_the_allocators(
    base: Path, tmp_path: Path, recorder: tiny.Recorder, method: MethodSpec, bf16: bool
) -> None:
    result = run(tmp_path / "run", base, method, recorder, bf16=bf16)
    assert result.audit.passed and result.environment.device == "cuda:0"
    assert recorder.seen[-1].loss < recorder.seen[0].loss
    memory = result.memory
    assert memory.device == "cuda:0"
    assert memory.reserved_bytes is not None and memory.reserved_bytes >= memory.train_peak_bytes > memory.weights_bytes
    assert result.clocks.accounted == pytest.approx(result.clocks.wall, rel=0.01)
    cached = any("are read from the cache" in line for line in recorder.logs)
    assert cached == (method is UPPER)


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_a_stopped_run_goes_on_but_for_rounding(base: Path, tmp_path: Path, bf16: bool) -> None:
    whole, first, second = tiny.Recorder(), tiny.Recorder(stop_at=9), tiny.Recorder()
    run(tmp_path / "whole", base, LORA, whole, bf16=bf16)
    with pytest.raises(Stopped):
        run(tmp_path / "first", base, LORA, first, bf16=bf16)
    [(_, folder)] = first.checkpoints
    run(tmp_path / "second", base, LORA, second, folder, bf16=bf16)
    losses = [step.loss for step in whole.seen]
    assert [step.loss for step in second.seen] == pytest.approx(losses, rel=0.02 if bf16 else 1e-3)


def test_a_frozen_base_takes_two_bytes_a_number_from_when_on(tmp_path: Path) -> None:
    large = tiny.save_model(
        tmp_path / "large", hidden_size=512, intermediate_size=2048, num_hidden_layers=4, num_attention_heads=8
    )
    numbers = large.joinpath("model.safetensors").stat().st_size // 4
    peaks = run(tmp_path / "run", large, LORA, tiny.Recorder(), bf16=True, max_steps=2).memory.phase_peak_bytes
    assert max(peaks["load"], peaks["baseline"]) < 3 * numbers


def test_a_full_device_is_named_with_the_request(base: Path, tmp_path: Path, recorder: tiny.Recorder) -> None:
    _, total = torch.cuda.mem_get_info()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**20 / total)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            run(tmp_path / "run", base, FullSpec(), recorder)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
