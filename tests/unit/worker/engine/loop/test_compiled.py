"""Compiled blocks: the loss and gradients of the plain ones, with a clock of their own and no trace in saved files.

`aot_eager` and `eager` trace as inductor does and generate no code, which takes a minute; one slow test does.
"""

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import BertForSequenceClassification

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import FullSpec, LeanFullSpec, LoraSpec, MethodSpec, QloraSpec
from app.domain.runs.result import RunResult
from app.domain.runs.spec import RunSpec
from app.domain.runs.together import can_train_together
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.loop import attempt as attempts
from worker.engine.loop import compiled as compiling
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.clocks import Stopwatch
from worker.engine.loop.compiled import CompiledBlocks, keep_caches_in, try_compiler
from worker.engine.loop.progress import Instruments, Stopped
from worker.engine.memory.measured import MemoryMeter
from worker.engine.models.attention import use_cpu_kernels
from worker.engine.models.load import checkpoint_blocks

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forget_compilations() -> None:
    torch._dynamo.reset()


def instruments(sink: tiny.Recorder) -> Instruments:
    return Instruments(sink, Stopwatch(0.0, CPU), MemoryMeter(CPU))


TRAINS = {"full": "", "bitfit": "bias|classifier", "last-layers": r"layer\.1\.|classifier", "head-only": "classifier"}
"""What trains of a BERT with dropout, as an expression for names, by method; `lean-full` trains bfloat16 weights."""


def model_of(kind: str) -> tuple[Any, Any]:
    """The base model, and what trains: a BERT by a method, or a checkpointed Llama's LoRA."""
    if kind != "llama":
        torch.manual_seed(1)
        base = BertForSequenceClassification._from_config(tiny.config(num_labels=3), attn_implementation="sdpa")
        use_cpu_kernels(base)
        for name, parameter in base.named_parameters():
            parameter.requires_grad = re.search(TRAINS.get(kind, ""), name) is not None
        return base, (base.to(torch.bfloat16) if kind == "lean-full" else base).train()
    base = tiny_lm.model(kind)
    use_cpu_kernels(base)
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.1))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    checkpoint_blocks(base)
    return base, adapted.train()


def loss_and_gradients(model: Any, rows: int, length: int) -> tuple[float, torch.Tensor]:
    torch.manual_seed(rows)
    model.zero_grad()
    ids = torch.randint(6, 32, (rows, length))
    mask = torch.ones_like(ids)
    mask[0, -1] = 0
    with torch.autocast("cpu", torch.bfloat16):
        if model.config.model_type == "bert":
            loss = model(input_ids=ids, attention_mask=mask, labels=torch.arange(rows) % 3).loss
        else:
            loss = model(input_ids=ids, attention_mask=mask, labels=ids, use_cache=False).loss
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["full", *(pytest.param(kind, marks=pytest.mark.slow) for kind in [*TRAINS, "lean-full", "llama"][1:])]
)
def test_loss_gradients_and_dropout_are_those_of_plain_blocks_at_any_length(kind: str) -> None:
    base, model = model_of(kind)
    names = list(model.state_dict())
    work = instruments(tiny.Recorder())
    work.clocks.enter("forward")
    compiled = CompiledBlocks(base, work, "aot_eager")
    new = []
    for rows, length in ((4, 8), (5, 11), (8, 8)):  # the last has as many rows as tokens
        expected = loss_and_gradients(model, rows, length)
        with compiled.computing():
            loss, gradients = loss_and_gradients(model, rows, length)
        new.append(compiled.compiled_in_step)
        assert loss == pytest.approx(expected[0], rel=1e-5)
        assert torch.allclose(gradients, expected[1], rtol=1e-3, atol=1e-4)
    assert new == [True, False, False], "other sizes need no other compilation"
    assert list(model.state_dict()) == names
    assert not any("forward" in vars(module) for module in model.modules())
    assert work.clocks.running == "forward"
    assert work.clocks.read().compile > 0


def attempt(folder: Path, base: Path, sink: tiny.Recorder, resume: Path | None = None, **changes: Any) -> RunResult:
    training = tiny.FAST.model_copy(update={"compile_blocks": True, **changes})
    job = tiny.job(folder, base, LoraSpec(r=4, target_modules=["query", "value"]), training)
    return Attempt(job.model_copy(update={"resume": str(resume) if resume else None}), sink).run()


@pytest.fixture
def traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "CompiledBlocks", partial(CompiledBlocks, backend="eager"))
    monkeypatch.setattr(attempts, "try_compiler", lambda device, clocks: None)


@pytest.mark.slow
@pytest.mark.usefixtures("traced_only")
def test_an_attempt_has_the_plain_losses_a_clock_and_clean_files(base: Path, tmp_path: Path) -> None:
    plain, sink = tiny.Recorder(), tiny.Recorder()
    expected = attempt(tmp_path / "plain", base, plain, compile_blocks=False)
    result = attempt(tmp_path / "compiled", base, sink)
    assert [s.loss for s in sink.seen] == pytest.approx([s.loss for s in plain.seen], rel=1e-4)
    assert result.audit.passed
    assert [ledger.owners for ledger in result.memory.ledgers] == [ledger.owners for ledger in expected.memory.ledgers]
    assert result.clocks.compile > 0 and expected.clocks.compile == 0
    assert result.clocks.accounted == pytest.approx(result.clocks.wall, rel=0.01)
    saved = next((tmp_path / "compiled" / "output").rglob("*.safetensors"))
    with safe_open(str(saved), "pt") as file:
        assert file.keys() and not any("_orig_mod" in name for name in file.keys())  # noqa: SIM118 no mapping


@pytest.mark.usefixtures("traced_only")
@pytest.mark.nightly
def test_a_run_resumes(base: Path, tmp_path: Path) -> None:
    sink = tiny.Recorder(stop_at=10)
    with pytest.raises(Stopped):
        attempt(tmp_path / "first", base, sink)
    step, folder = sink.checkpoints[-1]
    again, whole = tiny.Recorder(), tiny.Recorder()
    result = attempt(tmp_path / "second", base, again, folder)
    attempt(tmp_path / "whole", base, whole)
    assert result.resumed_from == step
    assert [s.loss for s in again.seen] == pytest.approx([s.loss for s in whole.seen], rel=1e-4)


def test_a_block_that_cannot_be_traced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    base, model = model_of("bert")
    monkeypatch.setattr(type(base.bert.encoder.layer[0]).forward, "__wrapped__", lambda self, x, *_, **__: x * x.item())
    compiled = CompiledBlocks(base, instruments(tiny.Recorder()), "eager")
    with pytest.raises(RunFailed) as failed, compiled.computing():
        loss_and_gradients(model, 4, 8)
    assert failed.value.code is FailureCode.BAD_CONFIGURATION
    assert "Set it to false" in str(failed.value)
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_worker_that_cannot_compile_says_so_before_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_compiler(*args: Any, **options: Any) -> Any:
        raise RuntimeError("No working C++ compiler found.\nSet CXX.")

    monkeypatch.setattr(compiling.torch, "compile", lambda *args, **options: without_compiler)
    with pytest.raises(RunFailed, match=r"No working C\+\+ compiler found\)\. Install a C\+\+ compiler"):
        try_compiler(CPU, Stopwatch(0.0, CPU))


def test_compiled_code_is_kept_in_the_installations_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in compiling._CACHES:
        monkeypatch.setenv(name, "kept")  # for the environment to be restored
        monkeypatch.delenv(name)
    keep_caches_in(tmp_path)
    assert {os.environ[name] for name in compiling._CACHES} == {str(tmp_path / "inductor"), str(tmp_path / "triton")}
    keep_caches_in(Path("/elsewhere"))
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "triton"), "the administrator's choice"


@pytest.mark.nightly
def test_generated_code_computes_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in compiling._CACHES:
        monkeypatch.setenv(name, "kept")
        monkeypatch.delenv(name)
    keep_caches_in(tmp_path)
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    config = tiny.config(num_labels=3, num_hidden_layers=1, hidden_size=16, intermediate_size=16)
    base: Any = BertForSequenceClassification._from_config(config, attn_implementation="sdpa")
    use_cpu_kernels(base)
    base.train()
    compiled = CompiledBlocks(base, instruments(tiny.Recorder()))
    for rows, length in ((4, 8), (5, 11)):
        expected = loss_and_gradients(base, rows, length)
        with compiled.computing():
            loss, gradients = loss_and_gradients(base, rows, length)
        assert loss == pytest.approx(expected[0], rel=1e-2)  # bfloat16, rounded less often within a fused loop
        assert (gradients - expected[1]).norm() < 0.02 * expected[1].norm()
    assert list((tmp_path / "inductor").rglob("*.so"))


@pytest.mark.parametrize(
    ("method", "works"),
    [
        (FullSpec(), True),
        (LeanFullSpec(), True),
        (LeanFullSpec(step_in_backward=True), False),
        (LoraSpec(), True),
        (LoraSpec(use_dora=True), False),
        (QloraSpec(), False),
    ],
)
def test_only_tested_methods_are_compiled(method: MethodSpec, works: bool) -> None:
    clash = method.clash(TrainingArguments(compile_blocks=True, max_grad_norm=0))
    assert works == (clash is None)
    assert clash is None or clash.path == "training.compile_blocks"


def test_compiled_blocks_train_alone_and_on_one_device() -> None:
    training = TrainingArguments(compile_blocks=True)
    spec = RunSpec(base_model="m", dataset="d", method=LoraSpec(), training=training)
    assert not can_train_together(spec)
    with pytest.raises(ValueError, match="one device only"):
        TrainingArguments(compile_blocks=True, devices=2, gradient_accumulation_steps=2)
