"""Frozen weights in bfloat16, and the kernels of packed ones."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from app.domain.methods import HeadOnlySpec, LastLayersSpec, LoraSpec, MethodSpec
from app.domain.runs.result import Memory, RunResult
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.children.environment import ML_ENVIRONMENT
from worker.engine.loop.attempt import Attempt
from worker.engine.models.load import load
from worker.engine.models.precision import computing, settle
from worker.engine.models.quantized.kernels import compiled_when_called

PROJECTIONS = ["query", "value"]
METHODS: list[MethodSpec] = [
    HeadOnlySpec(),
    LastLayersSpec(layers=1),
    LoraSpec(r=4, target_modules=PROJECTIONS),
    LoraSpec(r=4, target_modules=PROJECTIONS, use_dora=True),
    LoraSpec(r=4, target_modules=PROJECTIONS, init_lora_weights="pissa"),
    LoraSpec(r=4, target_modules=PROJECTIONS, init_lora_weights="olora"),
]


def run(directory: Path, base: Path, method: MethodSpec) -> tuple[RunResult, list[float]]:
    recorder = tiny.Recorder()
    job = tiny.job(directory, base, method, tiny.FAST.model_copy(update={"bf16": True, "max_steps": 12}))
    result = Attempt(job, recorder).run()
    return result, [step.loss for step in recorder.seen]


@pytest.mark.by_day
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_losses_are_those_of_a_base_that_is_rounded_only_when_it_is_frozen(
    base: Path, tmp_path: Path, method: MethodSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, losses = run(tmp_path / "held", base, method)
    monkeypatch.setattr("worker.engine.loop.attempt.settle", lambda *_, bf16: None)
    late, expected = run(tmp_path / "late", base, method)
    assert losses == pytest.approx(expected, rel=0.05)
    assert held.evaluations[0].loss == pytest.approx(late.evaluations[0].loss, rel=0.02)
    assert held.environment.frozen_dtype == late.environment.frozen_dtype == "bfloat16"
    assert held.memory.weights_bytes == late.memory.weights_bytes


def test_what_trains_and_what_is_tied_stay_as_they_are() -> None:
    model = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in ("embedding", "projection", "head")})
    model["projection"].weight = model["embedding"].weight
    head = model["head"].weight.clone()
    settle(model, {"head.weight"}, torch.device("cpu"), bf16=True)
    assert model["projection"].weight is model["embedding"].weight
    assert {name: p.dtype for name, p in model.named_parameters()} == {
        "embedding.weight": torch.bfloat16, "embedding.bias": torch.float32, "projection.bias": torch.float32,
        "head.weight": torch.float32, "head.bias": torch.float32,
    }  # fmt: skip
    assert torch.equal(model["head"].weight, head)
    with computing(model):
        assert model["embedding"](torch.zeros(1, 4)).dtype is torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_frozen_vectors_keep_the_dtype_of_the_file_so_that_norms_emit_it(tmp_path: Path, dtype: torch.dtype) -> None:
    base = tiny_lm.save_model(tmp_path, "llama")
    LlamaForCausalLM.from_pretrained(base, dtype=dtype).save_pretrained(base)
    model = load(str(base), "", "causal-lm", [], 0).model
    assert {p.dtype for p in model.parameters()} == {dtype}
    settle(model, {"lm_head.weight"}, torch.device("cpu"), bf16=True)
    assert {name for name, p in model.named_parameters() if p.dtype is not torch.bfloat16} == {"lm_head.weight"}
    emitted = []
    norm = model.get_submodule("model.layers.0.input_layernorm")
    norm.register_forward_hook(lambda module, inputs, output: emitted.append(output.dtype))
    with computing(model):
        model(input_ids=torch.ones(1, 3, dtype=torch.int64))
    assert emitted == [torch.bfloat16]
    settle(model, [], torch.device("cpu"), bf16=False)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.nightly
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_phase_before_training_holds_a_frozen_base_in_four_bytes_a_number(tmp_path: Path) -> None:
    """In a process of its own, whose allocator gives back what is free: 13 million numbers, 52 or 26 MB."""
    large = tiny.save_model(
        tmp_path / "large", hidden_size=512, intermediate_size=2048, num_hidden_layers=4, num_attention_heads=8
    )
    numbers = large.joinpath("model.safetensors").stat().st_size // 4
    job = tiny.job(
        tmp_path,
        large,
        LoraSpec(r=2, target_modules=PROJECTIONS),
        tiny.FAST.model_copy(update={"bf16": True, "max_steps": 2, "per_device_train_batch_size": 1}),
        tiny.rows(train=4, validation=2, test=4),
    )
    (tmp_path / "job.json").write_text(job.model_dump_json())
    program = f"""
from pathlib import Path
from app.domain.runs.job import TrainJob
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt
tiny.save_model(Path({str(tmp_path / "warm")!r}))
job = TrainJob.model_validate_json(Path({str(tmp_path / "job.json")!r}).read_bytes())
warm = job.model_copy(update={{"model_location": {str(tmp_path / "warm")!r}, "output": {str(tmp_path / "other")!r}}})
Path(warm.output).mkdir()
Attempt(warm, tiny.Recorder()).run()  # what libraries take when they are first used is none of the model's
print(Attempt(job, tiny.Recorder()).run().memory.model_dump_json())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | ML_ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    memory = Memory.model_validate_json(done.stdout.splitlines()[-1])
    # Training needs more on a CPU: oneDNN keeps the kernels that it compiles for each shape of a batch.
    for phase in ("load", "tokenize", "baseline"):
        assert memory.phase_peak_bytes[phase] < 3.5 * numbers, (phase, memory.phase_peak_bytes, numbers)


IMPORTED = """
import sys
from worker.children.child import import_engine
import_engine("worker.training.execution")
print({name for name in ("bitsandbytes", "peft", "torch._inductor.compile_fx") if name in sys.modules})
"""


def test_a_function_is_compiled_once_and_not_before_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[dict[str, Any]] = []

    def compile_now(function: Callable[..., int], **options: Any) -> Callable[..., int]:
        compiled.append(options)
        return lambda *args, **named: 10 * function(*args, **named)

    monkeypatch.setattr(torch, "compile", compile_now)
    with compiled_when_called():
        added = torch.compile(lambda a, b: a + b, dynamic=False)
        doubled = torch.compile(fullgraph=True)(lambda a: 2 * a)
    assert torch.compile is compile_now and compiled == []
    assert (added(1, b=2), added(3, 4)) == (30, 70)
    assert doubled(1) == 20 and compiled == [{"dynamic": False}, {"fullgraph": True}]


@pytest.mark.nightly
def test_a_trainer_has_bitsandbytes_and_no_compiler() -> None:
    pytest.importorskip("bitsandbytes")
    found = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert eval(found.stdout) == {"bitsandbytes", "peft"}, found.stderr
