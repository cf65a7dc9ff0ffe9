"""The frozen prefix: where it ends, that it runs without dropout, and that reading it changes nothing but the time.

Logits and gradients are compared in float32 to 1e-5 of logits that are about 1. They are not the same bits when a row
was stored from a batch of another shape: its products then go through other matrix kernels. From a batch of the same
shape they are.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from peft import LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedModel,
)

from worker.engine.loop.prefix.activations import Activations, NotCached, PrefixCache
from worker.engine.loop.prefix.frozen_prefix import Prefix, frozen_prefix

BLOCKS = 3
CLOSE = 1e-5
LENGTHS = [3, 7, 5, 9, 4, 8, 6, 10, 2, 7]
BATCHES = [[7, 0, 3, 5], [1, 4, 9], [8, 6, 2]]
"""The order of training; rows are stored in another one, in batches of another size."""
SIZES = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 64, "initializer_range": 0.1}
FAMILIES: dict[str, dict[str, object]] = {
    "bert": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "roberta": {"hidden_dropout_prob": 0.1},
    "distilbert": {"dim": 32, "n_layers": BLOCKS, "n_heads": 2, "hidden_dim": 64, "dropout": 0.1},
    "gpt2": {"n_embd": 32, "n_layer": BLOCKS, "n_head": 2, "embd_pdrop": 0.1, "resid_pdrop": 0.1},
    "llama": {"attention_dropout": 0.1},
    "qwen2": {"attention_dropout": 0.1},
    "phi": {"embd_pdrop": 0.1, "resid_pdrop": 0.1},
    "modernbert": {"embedding_dropout": 0.1, "mlp_dropout": 0.1, "cls_token_id": 2, "sep_token_id": 3},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "hidden_dropout_prob": 0.1},
}


def base(family: str, **changes: object) -> PreTrainedModel:
    """A classifier with random weights and dropout; nothing trains but its head."""
    torch.manual_seed(0)
    common = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": BLOCKS, "max_position_embeddings": 32, **SIZES}
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "num_labels": 3}
    config = AutoConfig.for_model(family, **{**common, **special, **FAMILIES.get(family, {}), **changes})
    model = AutoModelForSequenceClassification.from_config(config)
    model.requires_grad_(False)
    for name, part in model.named_children():
        part.requires_grad_(name != model.base_model_prefix)
    return model


def block_names(model: nn.Module) -> list[str]:
    """The blocks of all families above lie in their only list."""
    name, blocks = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList))
    return [f"{name}.{i}" for i in range(len(blocks))]


def head_only(family: str) -> nn.Module:
    return base(family)


def last_block(family: str) -> nn.Module:
    model = base(family)
    model.get_submodule(block_names(model)[-1]).requires_grad_(True)
    return model


def lora(family: str) -> nn.Module:
    """LoRA on the last block."""
    model = base(family)
    last = model.get_submodule(block_names(model)[-1])
    linear = {name.split(".")[-1] for name, m in last.named_modules() if type(m).__name__ in ("Linear", "Conv1D")}
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=4, target_modules=sorted(linear), layers_to_transform=[BLOCKS - 1],
        lora_dropout=0.1, init_lora_weights=False,
    )  # fmt: skip
    return get_peft_model(model, config)


WAYS: dict[str, tuple[Callable[[str], nn.Module], int]] = {
    "head-only": (head_only, BLOCKS),
    "last-block": (last_block, BLOCKS - 1),
    "lora": (lora, BLOCKS - 1),
}
"""What trains, and how many blocks are below it."""
ways = pytest.mark.parametrize("way", WAYS)


def inputs(rows: Sequence[int], side: str = "right") -> dict[str, torch.Tensor]:
    """Rows of random tokens; a row has the same tokens in every batch, and the same positions on either side."""
    longest = max(LENGTHS[i] for i in rows)
    ids, mask = torch.zeros(len(rows), longest, dtype=torch.int64), torch.zeros(len(rows), longest, dtype=torch.int64)
    for at, row in enumerate(rows):
        length = LENGTHS[row]
        place = slice(0, length) if side == "right" else slice(longest - length, longest)
        ids[at, place] = torch.randint(4, 32, (length,), generator=torch.Generator().manual_seed(row))
        mask[at, place] = 1
    found = {"input_ids": ids, "attention_mask": mask}
    return found if side == "right" else {**found, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def filled(
    prefix: Prefix, directory: Path, groups: Sequence[Sequence[int]] | None = None, side: str = "right"
) -> Activations:
    """Every row stored, from batches of three rows in order of length unless `groups` says otherwise."""
    order = sorted(range(len(LENGTHS)), key=LENGTHS.__getitem__)
    groups = groups or [order[start : start + 3] for start in range(0, len(order), 3)]
    batches = ((rows, inputs(rows, side)) for rows in groups)
    return prefix.fill(PrefixCache(directory, "key", 2**30), batches, len(LENGTHS), sum(LENGTHS))


class Trained(NamedTuple):
    """What one epoch without an optimizer gives."""

    logits: list[torch.Tensor]
    gradients: dict[str, torch.Tensor]


def train(prefix: Prefix, stored: Activations | None = None, side: str = "right", bf16: bool = False) -> Trained:
    """Forward and backward over `BATCHES`, with the same dropout every time."""
    model, logits = prefix.model, []
    model.zero_grad()
    torch.manual_seed(7)
    prefix.train_mode()
    with prefix.fed() if stored else nullcontext() as feed, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for rows in BATCHES:
            batch = inputs(rows, side)
            if stored:
                feed(stored.read(rows, batch["attention_mask"]))
            logits.append(model(**batch).logits.float())
            functional.cross_entropy(logits[-1], torch.tensor(rows) % 3, reduction="sum").backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    assert set(gradients) <= {n for n, p in model.named_parameters() if p.requires_grad}
    return Trained([x.detach() for x in logits], gradients)


def assert_same(found: Trained, expected: Trained, tolerance: float = CLOSE) -> None:
    """Logits to `tolerance`, gradients to `tolerance` of their largest number; 0: the same bits."""
    for a, b in zip(found.logits, expected.logits, strict=True):
        assert (a - b).abs().max() <= tolerance
    assert found.gradients.keys() == expected.gradients.keys()
    assert expected.gradients
    largest = max(g.abs().max() for g in expected.gradients.values())
    for name, gradient in expected.gradients.items():
        assert (found.gradients[name] - gradient).abs().max() <= tolerance * largest, name


@pytest.mark.by_day
@ways
@pytest.mark.parametrize("family", FAMILIES)
def test_reading_the_prefix_gives_the_same_logits_and_gradients(tmp_path: Path, family: str, way: str) -> None:
    make, depth = WAYS[way]
    prefix = frozen_prefix(make(family))
    assert prefix.depth == depth
    computed = train(prefix)
    with filled(prefix, tmp_path) as stored:
        assert_same(train(prefix, stored), computed)
        assert_same(train(prefix, stored), computed)
    assert_same(train(prefix), computed, tolerance=0)


@ways
def test_rows_stored_from_the_batches_of_training_give_the_same_bits(tmp_path: Path, way: str) -> None:
    prefix = frozen_prefix(WAYS[way][0]("bert"))
    with filled(prefix, tmp_path, BATCHES) as stored:
        assert_same(train(prefix, stored), train(prefix), tolerance=0)


@ways
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_padding_may_be_on_the_left(tmp_path: Path, family: str, way: str) -> None:
    prefix = frozen_prefix(WAYS[way][0](family))
    with filled(prefix, tmp_path, side="left") as stored:
        assert_same(train(prefix, stored, side="left"), train(prefix, side="left"))


@ways
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_under_bf16_activations_have_the_type_of_the_block(tmp_path: Path, family: str, way: str) -> None:
    prefix = frozen_prefix(WAYS[way][0](family))
    with torch.autocast("cpu", torch.bfloat16):
        stored = filled(prefix, tmp_path, BATCHES)
        with torch.no_grad():
            assert stored.dtype is prefix.activations(inputs([0])).dtype
    with stored:
        assert_same(train(prefix, stored, bf16=True), train(prefix, bf16=True), tolerance=0)


def test_a_model_in_bf16_is_stored_in_bf16(tmp_path: Path) -> None:
    prefix = frozen_prefix(last_block("llama").bfloat16())
    assert prefix.depth == BLOCKS - 1
    with filled(prefix, tmp_path, BATCHES) as stored:
        assert stored.dtype is torch.bfloat16
        assert_same(train(prefix, stored), train(prefix), tolerance=0)


@pytest.mark.parametrize("way", ["last-block", "lora"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_gradient_checkpointing_changes_nothing(tmp_path: Path, family: str, way: str) -> None:
    model = WAYS[way][0](family)
    plain = train(frozen_prefix(model))
    model.activation_checkpointing_enable()
    prefix = frozen_prefix(model)
    assert prefix.depth == WAYS[way][1]
    with filled(prefix, tmp_path) as stored:
        assert_same(train(prefix, stored), plain)


def test_evaluating_on_stored_activations_gives_the_same_answers(tmp_path: Path) -> None:
    prefix = frozen_prefix(last_block("bert"))
    with filled(prefix, tmp_path) as stored, torch.inference_mode():
        prefix.model.eval()
        batch = inputs([1, 2, 3])
        expected = prefix.model(**batch).logits
        with prefix.fed() as feed:
            feed(stored.read([1, 2, 3], batch["attention_mask"]))
            assert torch.allclose(prefix.model(**batch).logits, expected, atol=CLOSE)


def test_the_frozen_blocks_and_the_embeddings_do_not_run_when_they_are_fed(tmp_path: Path) -> None:
    model = last_block("bert")
    prefix = frozen_prefix(model)
    ran: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.register_forward_hook(lambda m, args, out, name=name: ran.append(name))
    with filled(prefix, tmp_path) as stored:
        ran.clear()
        train(prefix, stored)
    assert {name.split(".")[3] for name in ran if ".layer." in name} == {str(BLOCKS - 1)}
    assert not [name for name in ran if "embeddings" in name]


def test_each_forward_pass_needs_activations_and_an_error_computes_again(tmp_path: Path) -> None:
    prefix = frozen_prefix(last_block("bert"))
    with filled(prefix, tmp_path) as stored, prefix.fed() as feed:
        batch = inputs([1])
        feed(stored.read([1], batch["attention_mask"]))
        prefix.model(**batch)
        with pytest.raises(RuntimeError, match="feed those of each batch"):
            prefix.model(**batch)
    before = train(prefix)
    with pytest.raises(KeyboardInterrupt), prefix.fed():
        raise KeyboardInterrupt
    assert_same(train(prefix), before, tolerance=0)


def test_training_mode_leaves_the_prefix_without_dropout_however_often_it_is_set() -> None:
    prefix = frozen_prefix(last_block("bert"))
    for _ in range(2):
        prefix.train_mode()
        training = {name.split(".")[3] for name, m in prefix.model.named_modules() if m.training and ".layer." in name}
        assert training == {str(BLOCKS - 1)}
        assert prefix.model.training
        assert prefix.model.classifier.training
        assert not any(m.training for m in prefix.model.bert.embeddings.modules())
        prefix.model.eval()


def test_without_a_prefix_training_mode_is_the_models_own() -> None:
    prefix = frozen_prefix(base("bert").requires_grad_(True))
    prefix.train_mode()
    assert prefix.depth == 0
    assert all(module.training for module in prefix.model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_in_training_mode_the_prefix_gives_the_same_numbers_twice(family: str) -> None:
    prefix = frozen_prefix(head_only(family))
    prefix.train_mode()
    assert torch.equal(prefix.activations(inputs([3])), prefix.activations(inputs([3])))


def _trainable(name: str) -> nn.Module:
    """BERT in which one part trains beside the head."""
    model = base("bert")
    model.get_parameter(name).requires_grad_(True)
    return model


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("bert.embeddings.word_embeddings.weight", 0),
        ("bert.embeddings.LayerNorm.bias", 0),
        ("bert.encoder.layer.0.attention.self.query.bias", 0),
        ("bert.encoder.layer.1.output.dense.weight", 1),
        ("bert.encoder.layer.2.attention.self.key.weight", 2),
        ("bert.pooler.dense.weight", BLOCKS),
    ],
)
def test_the_prefix_ends_below_the_first_thing_that_trains(name: str, depth: int) -> None:
    assert frozen_prefix(_trainable(name)).depth == depth


def test_embeddings_that_train_or_feed_other_parts_end_the_prefix() -> None:
    model = base("deberta-v2")
    model.deberta.encoder.rel_embeddings.requires_grad_(True)
    assert frozen_prefix(model).depth == 0
    model = base("gpt2", vocab_size=32)
    model.score.weight = model.transformer.wte.weight
    model.score.requires_grad_(True)
    assert frozen_prefix(model).depth == 0


@pytest.mark.parametrize(
    "config",
    [
        PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=2),
        PrefixTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=2),
        LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query"]),
        LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["word_embeddings"]),
        LoraConfig(
            task_type=TaskType.SEQ_CLS, r=2, target_modules=["query"], layers_to_transform=[BLOCKS - 1], bias="all"
        ),
    ],
    ids=["prompt", "prefix", "LoRA everywhere", "LoRA on embeddings", "LoRA and all biases"],
)
def test_what_peft_trains_at_the_bottom_leaves_no_prefix(config: PeftConfig) -> None:
    assert frozen_prefix(get_peft_model(base("bert"), config)).depth == 0


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("t5", {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 3, "num_heads": 2, "decoder_start_token_id": 0}),
        ("albert", {"embedding_size": 16}),
        ("fnet", {}),
        ("convbert", {"embedding_size": 32}),
        ("longformer", {"attention_window": 8}),
        ("biogpt", {"hidden_dropout_prob": 0.1}),
        ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32, "layerdrop": 1e-6}),
        ("big_bird", {"block_size": 4}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_where_activations_depend_on_other_rows_is_no_prefix(family: str, changes: dict[str, object]) -> None:
    """An encoder-decoder, one block used many times, words mixed with padding (twice), padding added inside, dropout
    outside of modules, blocks skipped at random, attention that depends on the length."""
    assert frozen_prefix(base(family, **changes)).depth == 0


def test_seq2seq_has_no_prefix_and_functional_dropout_matters_where_there_is_some() -> None:
    sizes = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 2), ("ffn_dim", 32))}
    model = BartForConditionalGeneration(BartConfig(vocab_size=32, d_model=32, pad_token_id=0, dropout=0.0, **sizes))
    assert frozen_prefix(model.requires_grad_(False)).depth == 0
    assert frozen_prefix(base("biogpt", hidden_dropout_prob=0.0)).depth == BLOCKS


def test_embeddings_are_computed_where_something_else_needs_them(tmp_path: Path) -> None:
    """DeBERTa's convolution joins the embeddings to what the first block returns."""
    model = base("deberta-v2", conv_kernel_size=3, conv_act="gelu", num_hidden_layers=2)
    model.deberta.encoder.layer[1].requires_grad_(True)
    prefix = frozen_prefix(model)
    assert (prefix.depth, prefix.entry) == (1, None)
    with filled(prefix, tmp_path) as stored:
        assert_same(train(prefix, stored), train(prefix))


@ways
def test_looking_for_the_prefix_changes_nothing(way: str) -> None:
    model = WAYS[way][0]("bert").train()
    model.bert.encoder.layer[1].eval() if way == "head-only" else None
    before = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks), [*vars(m)]) for m in model.modules()]
    weights, state = deepcopy(model.state_dict()), torch.get_rng_state()
    with torch.inference_mode():
        assert frozen_prefix(model).depth
    assert torch.equal(torch.get_rng_state(), state)
    after = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks), [*vars(m)]) for m in model.modules()]
    assert after == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_an_input_that_only_checkpointing_gave_a_gradient_does_not_end_the_prefix() -> None:
    model = last_block("bert")
    model.enable_input_require_grads()
    assert frozen_prefix(model).depth == BLOCKS - 1


def test_what_does_not_fit_is_said_and_the_model_still_trains(tmp_path: Path) -> None:
    prefix = frozen_prefix(last_block("bert"))
    before = train(prefix)
    with pytest.raises(NotCached, match="their cache may hold"):
        prefix.fill(PrefixCache(tmp_path, "key", 10), [([0], inputs([0]))], 1, LENGTHS[0])
    assert_same(train(prefix), before, tolerance=0)
    assert not [*tmp_path.iterdir()]


def test_a_damaged_file_is_computed_anew(tmp_path: Path) -> None:
    prefix = frozen_prefix(last_block("bert"))
    filled(prefix, tmp_path).__exit__()
    cache = PrefixCache(tmp_path, "key", 2**30)
    content = bytearray(cache.file.read_bytes())
    content[100] ^= 255
    cache.file.write_bytes(content)
    assert cache.open() is None
    with filled(prefix, tmp_path) as stored:
        assert_same(train(prefix, stored), train(prefix))
