"""QLoRA: a base model in four bits that stays as it is, beside adapters that are LoRA's."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig, T5Config

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import LoraSpec, QloraSpec
from app.domain.tasks import Task
from tests.support.tiny import images as tiny_images
from tests.support.tiny import texts as tiny
from worker.engine.evaluation import audit
from worker.engine.loop.attempt import Attempt
from worker.engine.methods import peft
from worker.engine.models.architecture import describe
from worker.engine.models.inspect import on_task
from worker.engine.models.load import load
from worker.engine.models.quantized.quantization import NF4, is_packed, shape, stored
from worker.engine.tasks import TASKS

TASK: Task = "sequence-classification"
CPU = torch.device("cpu")
FLOAT32 = NF4(torch.float32, CPU)
QUERY = "bert.encoder.layer.0.attention.self.query"
IDS = torch.tensor([[2, 11, 12, 3], [2, 9, 3, 0]])

WIDE = {"hidden_size": 64, "intermediate_size": 128}
"""Rows of whole blocks: others come out wrong on a CPU."""

needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model that can be packed."""
    return tiny.save_model(tmp_path_factory.mktemp("wide"), **WIDE)


@pytest.mark.slow
@needs_bitsandbytes
def test_it_learns_from_images(tmp_path: Path) -> None:
    job = tiny_images.job(tmp_path / "job", tiny_images.save_model(tmp_path / "model", **WIDE), QloraSpec(r=4))
    result = Attempt(job, tiny.Recorder()).run()
    [before] = [e for e in result.evaluations if e.subject == "base"]
    after = [e for e in result.evaluations if e.split == "test"][-1]
    assert after.metrics["accuracy"] == 1 and after.loss < before.loss / 2
    assert result.environment.frozen_dtype == "nf4"


def test_it_trains_the_same_tensors_as_lora_on_every_linear_layer() -> None:
    facts = on_task(tiny.config(), TASK).with_labels(3)
    assert QloraSpec(r=4).trains(facts) == LoraSpec(r=4, target_modules="all-linear").trains(facts)


def test_without_bitsandbytes_it_is_refused_with_the_remedy(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(RunFailed, match=r"bitsandbytes.*not installed on this worker \(vezna\[qlora\]\)") as failed:
        load(str(base), "", TASK, tiny.LABELS, 0, FLOAT32)
    assert failed.value.code is FailureCode.BAD_CONFIGURATION
    assert "Choose LoRA" in failed.value.message


def _library(unpack: Callable[..., torch.Tensor]) -> SimpleNamespace:
    functional = SimpleNamespace(quantize_4bit=lambda matrix, **_: (matrix, None), dequantize_4bit=unpack)
    return SimpleNamespace(functional=functional)


def _no_kernel(packed: torch.Tensor, _: None) -> torch.Tensor:
    raise RuntimeError("no kernel image is available for the device.\nCompile with …")


@pytest.mark.parametrize(
    ("unpack", "words"),
    [
        (_no_kernel, r"needs bitsandbytes .* but no kernel image is available for the device\. Choose LoRA"),
        (
            lambda packed, _: packed.roll(1, 0),
            r"gives wrong numbers on this cpu for layers with \d+ inputs\. Choose LoRA",
        ),
    ],
)
def test_a_library_that_does_not_work_on_the_device_is_refused(
    base: Path, monkeypatch: pytest.MonkeyPatch, unpack: Callable[..., torch.Tensor], words: str
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", _library(unpack))  # type: ignore[arg-type]
    with pytest.raises(RunFailed, match=words) as failed:
        load(str(base), "", TASK, tiny.LABELS, 0, FLOAT32)
    assert failed.value.code is FailureCode.BAD_CONFIGURATION


@needs_bitsandbytes
def test_linear_layers_are_packed_and_everything_else_is_as_it_was(base: Path) -> None:
    plain, held = (
        load(str(base), "", TASK, tiny.LABELS, 5).model,
        load(str(base), "", TASK, tiny.LABELS, 5, FLOAT32).model,
    )
    packed = {name for name, p in held.named_parameters() if is_packed(p)}
    facts = describe(plain, TASK)
    assert packed == {f"{m.name}.weight" for m in facts.linear}
    assert describe(held, TASK) == facts, "the shapes are those of the model before it was packed"
    for name, p in held.named_parameters():
        if name not in packed:
            assert torch.equal(p, plain.get_parameter(name)), "the head too: it depends on the seed alone"
    weight = held.get_parameter(f"{QUERY}.weight")
    assert weight.dtype is torch.uint8
    assert weight.numel() == 64 * 64 // 2
    assert sum(t.numel() * t.element_size() for t in stored(weight)) == 2048 + 64 + 4 + 4


T5 = T5Config(
    d_model=64, num_layers=2, num_heads=2, d_ff=128, d_kv=32, vocab_size=32, pad_token_id=0, decoder_start_token_id=0
)
LLAMA = LlamaConfig(**WIDE, num_hidden_layers=2, num_attention_heads=2, vocab_size=32, pad_token_id=0)
GPT2 = GPT2Config(n_embd=64, n_layer=2, n_head=2, vocab_size=32, bos_token_id=2, eos_token_id=3)


@needs_bitsandbytes
@pytest.mark.parametrize(
    ("config", "task", "plain"),
    [(LLAMA, "causal-lm", 0), (GPT2, "causal-lm", 0), (T5, "seq2seq-lm", 4)],  # T5 keeps its `wo` in float32
    ids=["llama", "gpt2", "t5"],
)
def test_all_but_the_vocabulary_is_packed(tmp_path: Path, config: PreTrainedConfig, task: Task, plain: int) -> None:
    torch.manual_seed(0)
    TASKS[task].AUTO.from_config(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    exact, model = load(str(tmp_path), "", task, [], 0).model, load(str(tmp_path), "", task, [], 0, FLOAT32).model
    facts = describe(exact, task)
    packed = [name for name, p in model.named_parameters() if is_packed(p)]
    assert len(packed) == len(facts.linear) - plain
    assert set(packed) <= {f"{m.name}.weight" for m in facts.linear}
    assert torch.equal(model.get_output_embeddings().weight, exact.get_output_embeddings().weight)
    assert describe(model, task).total == facts.total

    inputs = {"input_ids": IDS} | ({"decoder_input_ids": IDS} if task == "seq2seq-lm" else {})
    adapted = peft.apply(model, QloraSpec(r=4), describe(model, task))
    audit.check_trainable(adapted, QloraSpec(r=4).trains(facts))
    before = audit.hashes(adapted)
    adapted.train()(**inputs).logits.square().mean().backward()
    with torch.inference_mode():
        adapted.eval().generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=2)
    assert audit.hashes(adapted) == before
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)


@needs_bitsandbytes
def test_its_update_stands_beside_what_the_packed_weights_stand_for(base: Path) -> None:
    spec = QloraSpec(r=4)
    model = load(str(base), "", TASK, tiny.LABELS, 0, FLOAT32).model
    facts = describe(model, TASK)
    adapted = peft.apply(model, spec, facts).eval()
    layer = facts.linear[0]
    module = adapted.get_submodule(f"base_model.model.{layer.name}")
    with torch.no_grad():
        module.lora_B["default"].weight.normal_()  # type: ignore[index, union-attr, operator]
        change = peft.change(adapted, spec, layer, lambda: model)
        x = torch.randn(5, layer.in_features)
        y = module(x) - module(torch.zeros_like(x))
    assert (change.before.shape, change.before.dtype) == ((64, 64), torch.float64)
    torch.testing.assert_close(x.double() @ (change.before + change.dense).T, y.double(), rtol=1e-4, atol=1e-4)


@needs_bitsandbytes
def test_a_layer_multiplies_by_the_dequantized_weights(base: Path) -> None:
    from_library = __import__("bitsandbytes").functional.dequantize_4bit
    layer = load(str(base), "", TASK, tiny.LABELS, 5, FLOAT32).model.get_submodule(QUERY)
    exact = load(str(base), "", TASK, tiny.LABELS, 5).model.get_submodule(QUERY)
    weight = from_library(layer.weight.data, layer.weight.quant_state)
    assert (weight - exact.weight).norm() < 0.12 * exact.weight.norm()
    for x in (torch.randn(2, 7, 64), torch.randn(1, 1, 64)):
        expected = nn.functional.linear(x, weight, exact.bias)
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(layer(x.requires_grad_()), expected)


@needs_bitsandbytes
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_neither_training_nor_an_evaluation_changes_what_is_frozen(base: Path, compute: torch.dtype) -> None:
    """bitsandbytes would turn biases into the compute type, and on some CPUs repack the weights for an evaluation."""
    model = load(str(base), "", TASK, tiny.LABELS, 5, NF4(compute, CPU)).model
    before = audit.hashes(model)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=compute is torch.bfloat16):
        model.eval()(input_ids=IDS)
    assert audit.hashes(model) == before
    with torch.autocast("cpu", torch.bfloat16, enabled=compute is torch.bfloat16):
        model.train()(input_ids=IDS).logits.sum().backward()
    assert audit.hashes(model) == before


@needs_bitsandbytes
def test_activations_have_the_type_of_other_methods_under_autocast(base: Path) -> None:
    model = load(str(base), "", TASK, tiny.LABELS, 5, NF4(torch.bfloat16, CPU)).model
    with torch.autocast("cpu", torch.bfloat16):
        assert model.get_submodule(QUERY)(torch.randn(2, 3, 64)).dtype is torch.bfloat16


@needs_bitsandbytes
def test_one_bit_of_a_packed_weight_or_of_its_scales_is_seen_by_the_audit(base: Path) -> None:
    model = load(str(base), "", TASK, tiny.LABELS, 5, FLOAT32).model
    before, name = audit.hashes(model), f"{QUERY}.weight"
    for tensor in stored(model.get_parameter(name)):
        kept = tensor.clone()
        tensor.view(-1)[-1] += 1
        after = audit.hashes(model)
        assert {n for n in before if after[n] != before[n]} == {name}
        tensor.copy_(kept)
    assert audit.hashes(model) == before


@pytest.mark.slow
@needs_bitsandbytes
@pytest.mark.parametrize("changes", [{}, {"bf16": True}, {"gradient_checkpointing": True}], ids=str)
def test_a_run_passes_the_audit_and_what_it_keeps_gives_the_same_answers(
    base: Path, tmp_path: Path, changes: dict[str, bool]
) -> None:
    spec = QloraSpec(r=4)
    job = tiny.job(tmp_path, base, spec, tiny.FAST.model_copy(update=changes))
    result = Attempt(job, tiny.Recorder()).run()
    assert result.audit.passed
    assert result.audit.notes == []
    assert result.environment.frozen_dtype == "nf4"

    bf16 = bool(changes.get("bf16"))
    lora = LoraSpec(r=4, target_modules="all-linear")
    other = Attempt(
        tiny.job(tmp_path / "lora", base, lora, tiny.FAST.model_copy(update=changes)), tiny.Recorder()
    ).run()
    assert result.parameters == other.parameters, "packed weights count as those that they stand for"
    assert result.memory.weights_bytes < other.memory.weights_bytes

    fresh = load(str(base), "", TASK, tiny.LABELS, 0, NF4(torch.bfloat16 if bf16 else torch.float32, CPU)).model
    model = PeftModel.from_pretrained(fresh, Path(job.output) / "adapter").eval()
    predictions, words = pq.read_table(Path(job.output) / "predictions.parquet"), tiny.tokenizer()
    for text, scores in zip(predictions["text"].to_pylist(), predictions["scores"].to_pylist(), strict=True):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(**words(text, return_tensors="pt", return_token_type_ids=False)).logits.float()
        np.testing.assert_allclose(logits.softmax(1)[0].numpy(), scores, atol=0.02 if bf16 else 1e-5)


@pytest.mark.slow
@needs_bitsandbytes
def test_gradient_checkpointing_changes_no_loss(base: Path, tmp_path: Path) -> None:
    losses = []
    for on in (False, True):
        recorder = tiny.Recorder()
        training = tiny.FAST.model_copy(update={"gradient_checkpointing": on, "max_steps": 6})
        Attempt(tiny.job(tmp_path / str(on), base, QloraSpec(r=4), training), recorder).run()
        losses.append([step.loss for step in recorder.seen])
    assert losses[0] == losses[1]


def test_an_ordinary_parameter_is_stored_in_itself() -> None:
    parameter = nn.Parameter(torch.ones(2, 3))
    assert shape(parameter) == (2, 3)
    assert stored(parameter)[0] is parameter
