"""Batches without a mask, or without padding: where losses stay the same, and what is refused."""

from collections.abc import Sequence
from inspect import signature
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertGenerationConfig,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import FullSpec, LastLayersSpec, LoraSpec, MethodSpec, PrefixSpec, PromptSpec
from app.domain.resources.estimate import EstimateRequest
from app.domain.runs.job import TrainJob
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Task
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.data.batches import padding
from worker.engine.data.batches.batches import Batch, learnt, padded
from worker.engine.data.batches.padding import needs_padding_mask
from worker.engine.data.batches.padding_free import CPU_MULTIPLE, RowsApart, check_padding_free, without_padding
from worker.engine.estimation.estimate import estimate_run
from worker.engine.loop.attempt import Attempt
from worker.engine.methods import MECHANISMS
from worker.engine.models import attention
from worker.engine.models.architecture import describe
from worker.engine.models.attention import KERNEL, Rows, in_one_call, kernel_dtype
from worker.engine.models.load import checkpoint_blocks
from worker.engine.tasks import TASKS, causal_lm

WITHOUT = [
    LlamaConfig(num_key_value_heads=8, dtype=torch.bfloat16),
    Qwen3Config(),
    MistralConfig(sliding_window=4096),
    Gemma2Config(),
    GPT2Config(),
    GPTNeoXConfig(),
    OPTConfig(),
    PhiConfig(),
    BloomConfig(),
    FalconConfig(),
    MixtralConfig(),
]
"""In the sizes of real models."""


@pytest.mark.parametrize("config", WITHOUT, ids=lambda config: config.model_type)
def test_a_decoder_needs_no_mask_of_padding_on_the_right(config: PreTrainedConfig) -> None:
    before = config.to_json_string(use_diff=False)
    state = torch.get_rng_state()
    assert not needs_padding_mask(config)
    assert config.to_json_string(use_diff=False) == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "config",
    [BertGenerationConfig(), BertConfig(), MambaConfig(), LlamaConfig(hidden_act="nonesuch")],
    ids=["sees both ways", "no language model", "no attention heads", "cannot be built"],
)
def test_what_is_not_shown_to_be_the_same_keeps_its_mask(config: PreTrainedConfig) -> None:
    assert needs_padding_mask(config)


def test_an_architecture_that_reads_the_mask_elsewhere_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose positions are counted from the end of what is real."""
    monkeypatch.setattr(padding, "_ANSWERS", {})
    build = padding._small

    def counting(config: PreTrainedConfig) -> torch.nn.Module:
        model = build(config)
        inner = model.forward

        def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **options: object) -> object:
            real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            places = real.flip(1).cumsum(1).flip(1)
            return inner(input_ids=input_ids, attention_mask=attention_mask, position_ids=places, **options)

        model.forward = forward
        return model  # type: ignore[no-any-return]

    monkeypatch.setattr(padding, "_small", counting)
    assert needs_padding_mask(tiny_lm.config("llama"))


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_losses_and_gradients_are_those_with_the_mask(kind: str, tmp_path: Path) -> None:
    model, rows = tiny_lm.model(kind), tiny_lm.pairs(8)
    job = tiny_lm.job(tmp_path, tmp_path, "causal-lm", rows, method=FullSpec())
    examples = causal_lm.encode(rows, "train", tiny_lm.tokenizer(), model, job, tiny.Recorder())
    batch = causal_lm.collate(examples, range(8), 0)
    assert "attention_mask" not in batch.inputs and int(batch.real.sum()) == batch.tokens < batch.real.numel()
    gradients, losses = [], []
    for inputs in (batch.inputs, batch.inputs | {"attention_mask": batch.real}):
        model.zero_grad()
        losses.append(causal_lm.loss(model, causal_lm.Batch(inputs, batch.labels, batch.tokens, batch.places)))
        losses[-1].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 1e-5


@pytest.mark.parametrize(
    ("method", "masked"),
    [(LoraSpec(r=4), False), (PromptSpec(num_virtual_tokens=4), True), (PrefixSpec(num_virtual_tokens=4), True)],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_run_records_whether_padding_was_masked(method: MethodSpec, masked: bool, tmp_path: Path) -> None:
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    training = tiny_lm.FAST.model_copy(update={"max_steps": 2, "max_new_tokens": 2})
    job = tiny_lm.job(tmp_path, base, "causal-lm", tiny_lm.pairs(), method=method, training=training)
    assert Attempt(job, tiny.Recorder()).run().environment.padding_mask is masked


def test_cached_activations_are_fed_without_a_mask(tmp_path: Path) -> None:
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    losses = []
    for cached in (True, False):
        training = tiny_lm.FAST.model_copy(update={"max_steps": 4, "max_new_tokens": 2, "cache_frozen_prefix": cached})
        folder = tmp_path / str(cached)
        job = tiny_lm.job(
            folder, base, "causal-lm", tiny_lm.pairs(), method=LastLayersSpec(layers=1), training=training
        )
        sink = tiny.Recorder()
        Attempt(job.model_copy(update={"cache": str(tmp_path / "cache"), "cache_bytes": 10**8}), sink).run()
        assert any("are read from the cache" in line for line in sink.logs) == cached
        losses.append([step.loss for step in sink.seen])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_an_estimate_without_a_mask_has_no_bias_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000}  # fmt: skip
    request = EstimateRequest(
        config=config,
        task="causal-lm",
        method=FullSpec(),
        training=tiny_lm.FAST.model_copy(update={"max_length": 256, "max_new_tokens": 2}),
        device="cuda",
        bf16=True,
    )
    without = estimate_run(request, None).ledger
    monkeypatch.setattr(causal_lm, "needs_padding_mask", lambda config: True)
    masked = estimate_run(request, None).ledger
    bias = 8 * 4 * 256 * 256 * 2  # rows, heads, queries, keys, bytes
    assert masked.owners["activations"] - without.owners["activations"] >= bias


LENGTHS = (7, 2, 11, 1, 5)
KINDS = ["bert", "gpt2", "llama", "qwen2"]
ON = {"padding_free": True}


def model_of(kind: str) -> Any:
    """Without dropout, so that losses can be compared."""
    if kind != "bert":
        names = ("embd_pdrop", "attn_pdrop", "resid_pdrop") if kind == "gpt2" else ()
        return tiny_lm.model(kind, **dict.fromkeys(names, 0.0))
    torch.manual_seed(1)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 3}
    return BertForSequenceClassification._from_config(tiny.config(**quiet), attn_implementation="sdpa")


def batch_of(kind: str, lengths: Sequence[int] = LENGTHS) -> tuple[Task, Batch]:
    """A padded batch with a mask."""
    draw = np.random.default_rng(0)
    ids, mask = padded([draw.integers(6, 32, length) for length in lengths], 0)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if kind == "bert":
        return "sequence-classification", Batch(inputs, torch.arange(len(lengths)) % 3, int(mask.sum()))
    labels = torch.where(mask.bool(), ids, -100)
    return "causal-lm", Batch(inputs, labels, int(mask.sum()), learnt(labels))


def loss_and_gradients(model: Any, task: Task, batch: Batch) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    with RowsApart(model).of(batch):
        loss = TASKS[task].loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("again", [False, True], ids=["stored", "gradient_checkpointing"])
@pytest.mark.parametrize("method", [FullSpec(), LoraSpec(r=4, target_modules="all-linear")], ids=lambda m: m.kind)
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_padded_batches(kind: str, method: MethodSpec, again: bool) -> None:
    base = model_of(kind)
    task, batch = batch_of(kind)
    model = MECHANISMS[method.mechanism].apply(base, method, describe(base, task)).train()
    if again:
        checkpoint_blocks(base)
    widths: list[int] = []
    second = {"bert": "bert.encoder.layer.1", "gpt2": "transformer.h.1"}.get(kind, "model.layers.1")

    def note(_module: Any, args: Any, options: Any) -> None:
        widths.append((args[0] if args else options["hidden_states"]).shape[:2].numel())

    base.get_submodule(second).register_forward_pre_hook(note, with_kwargs=True)
    expected, gradients = loss_and_gradients(model, task, batch)
    found, others = loss_and_gradients(model, task, without_padding(batch))
    assert found == pytest.approx(expected, rel=1e-6)
    assert float((others - gradients).norm() / gradients.norm()) < 1e-5
    half = len(widths) // 2
    assert set(widths[:half]) == {len(LENGTHS) * max(LENGTHS)}
    assert set(widths[half:]) == {sum(LENGTHS) + -sum(LENGTHS) % CPU_MULTIPLE}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_stays_behind(kind: str) -> None:
    model = model_of(kind).eval()
    task, batch = batch_of(kind)
    with torch.no_grad():
        before = TASKS[task].loss(model, batch)
        with RowsApart(model).of(without_padding(batch)):
            TASKS[task].loss(model, without_padding(batch))
        assert torch.equal(TASKS[task].loss(model, batch), before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_probe_accepts_what_is_equal(kind: str) -> None:
    check_padding_free(model_of(kind), 24)


def test_short_windows_and_fixed_attention_are_refused() -> None:
    model = tiny_lm.model("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=0)
    with pytest.raises(RunFailed, match="it attends to a window of 8 tokens") as error:
        check_padding_free(model, 24)
    assert error.value.code is FailureCode.BAD_CONFIGURATION
    model = tiny_lm.model("llama")
    model.set_attn_implementation("eager")
    with pytest.raises(RunFailed, match="Leave padding_free out"):
        check_padding_free(model, 24)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("keys", [4, 2])
def test_the_kernel_is_called_as_torch_describes_it(keys: int, causal: bool) -> None:
    """`varlen_attn` runs on CUDA alone; this is what its documentation says. The names of arguments are checked."""

    def described(q: Any, k: Any, v: Any, cu_seq_q: Any, cu_seq_k: Any, max_q: int, max_k: int, **options: Any) -> Any:
        if KERNEL is not None:
            signature(KERNEL).bind(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, **options)
        assert options["window_size"] == ((-1, 0) if causal else (-1, -1))
        assert options["enable_gqa"] == (keys != 4)
        assert (max_q, max_k, cu_seq_q.dtype) == (max(LENGTHS), max(LENGTHS), torch.int32)
        rows = zip(*(x.transpose(0, 1).split(LENGTHS, dim=1) for x in (q, k, v)), strict=True)
        mixed = [
            scaled_dot_product_attention(*row, is_causal=causal, scale=options["scale"], enable_gqa=keys != 4)
            for row in rows
        ]
        return torch.cat(mixed, dim=1).transpose(0, 1)

    torch.manual_seed(0)
    query, (key, value) = torch.randn(1, 4, sum(LENGTHS), 8), (torch.randn(1, keys, sum(LENGTHS), 8) for _ in range(2))
    rows = Rows(LENGTHS, torch.tensor([0, *accumulate(LENGTHS)], dtype=torch.int32))
    found = in_one_call(described, query, key, value, rows, causal, 0.3)
    wide = [x.repeat_interleave(4 // keys, dim=1) for x in (key, value)]
    owner = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    seen = owner[:, None] == owner[None]
    mask = seen.tril() if causal else seen
    expected = scaled_dot_product_attention(query, *wide, attn_mask=mask, scale=0.3).transpose(1, 2)
    assert torch.allclose(found, expected, atol=1e-6)


def by_rows(q: Any, k: Any, v: Any, ends: torch.Tensor, _: Any, longest: int, __: int, **options: Any) -> Any:
    """What `varlen_attn` computes, on a CPU."""
    lengths = ends.diff().tolist()
    assert max(lengths) == longest
    rows = zip(*(x.transpose(0, 1).split(lengths, dim=1) for x in (q, k, v)), strict=True)
    causal, grouped = options["window_size"] == (-1, 0), options["enable_gqa"]
    mixed = [
        scaled_dot_product_attention(*row, is_causal=causal, scale=options["scale"], enable_gqa=grouped) for row in rows
    ]
    return torch.cat(mixed, dim=1).transpose(0, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_attends_in_every_block(kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the options that transformers' models pass to their attention, and weights as of a frozen base model or as
    of full fine-tuning; both compute in bfloat16."""
    dtypes: list[set[torch.dtype]] = []

    def kernel(q: Any, k: Any, v: Any, *others: Any, **options: Any) -> Any:
        dtypes.append({q.dtype, k.dtype, v.dtype})
        return by_rows(q, k, v, *others, **options)

    model = model_of(kind).to(dtype).train()
    task, batch = batch_of(kind)
    with torch.autocast("cpu", torch.bfloat16):
        expected, gradients = loss_and_gradients(model, task, batch)
        monkeypatch.setattr(attention, "KERNEL", kernel)
        monkeypatch.setattr(attention, "has_kernel", lambda device: True)
        loss, others = loss_and_gradients(model, task, without_padding(batch))
    assert dtypes == [{torch.bfloat16}] * model.config.num_hidden_layers
    assert loss == pytest.approx(expected, rel=0.01)
    assert float((others - gradients).float().norm() / gradients.float().norm()) < 0.05


HEADS = torch.zeros(1, 4, 7, 16, dtype=torch.bfloat16)
PASSED: dict[str, dict[str, Any]] = {
    "llama, gpt2": {"position_ids": torch.arange(7)[None], "use_cache": False},
    "qwen2": {"position_ids": torch.arange(7)[None], "use_cache": False, "sliding_window": None},
    "bert": {"position_ids": None, "encoder_hidden_states": None},
}
"""What transformers 5.24 passes beside dropout and scaling."""


@pytest.mark.parametrize("options", PASSED.values(), ids=PASSED)
def test_options_that_change_nothing_leave_the_kernel(options: dict[str, Any]) -> None:
    assert kernel_dtype(HEADS, HEADS, 0.0, options) is torch.bfloat16
    assert kernel_dtype(HEADS.float(), HEADS.float(), 0.0, options) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert kernel_dtype(HEADS.float(), HEADS, 0.0, options) is torch.bfloat16


@pytest.mark.parametrize("name", ["position_bias", "softcap", "s_aux", "sliding_window"])
def test_options_that_change_the_result_are_not_the_kernels(name: str) -> None:
    assert kernel_dtype(HEADS, HEADS, 0.0, {"use_cache": False, name: None}) is torch.bfloat16
    assert kernel_dtype(HEADS, HEADS, 0.0, {"use_cache": False, name: 4}) is None


@pytest.mark.parametrize("size", [12, 264])
def test_heads_of_other_sizes_and_dropout_are_not_the_kernels(size: int) -> None:
    heads = torch.zeros(1, 4, 7, size, dtype=torch.bfloat16)
    assert kernel_dtype(heads, heads, 0.0, {}) is None
    assert kernel_dtype(HEADS, heads, 0.0, {}) is None
    assert kernel_dtype(HEADS, HEADS, 0.1, {}) is None


def job(kind: str, folder: Path, training: TrainingArguments, method: MethodSpec) -> TrainJob:
    if kind == "bert":
        quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return tiny.job(folder, tiny.save_model(folder / "model", **quiet), method, training)
    return tiny_lm.job(folder, tiny_lm.save_model(folder / "model", kind), "causal-lm", tiny_lm.pairs(),
                       method=method, training=training)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_run_has_the_losses_of_a_padded_one(kind: str, tmp_path: Path) -> None:
    """All rows in one batch: then the order, which is not sorted here, cannot differ."""
    plain = TrainingArguments(num_train_epochs=4, per_device_train_batch_size=64, learning_rate=3e-3, max_length=24,
                              max_new_tokens=4, bf16=False)  # fmt: skip
    losses = []
    for place, training in enumerate((plain, plain.model_copy(update=ON))):
        sink = tiny.Recorder()
        result = Attempt(job(kind, tmp_path / str(place), training, FullSpec()), sink).run()
        losses.append([step.loss for step in sink.seen])
        assert result.steps == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_rows_are_not_sorted(tmp_path: Path) -> None:
    training = tiny.FAST.model_copy(update={"num_train_epochs": 1})
    orders = []
    for place, changed in enumerate((training, training.model_copy(update=ON))):
        result = Attempt(job("bert", tmp_path / str(place), changed, FullSpec()), tiny.Recorder()).run()
        assert result.data is not None
        orders.append(result.data.order)
    assert orders[0] != orders[1]
