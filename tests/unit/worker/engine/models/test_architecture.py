"""What is read off a model, for every kind of architecture: held against what the model does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    BartConfig,
    Gemma3Config,
    MambaConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from app.domain.failures import RunFailed
from app.domain.methods import LastLayersSpec
from app.domain.models.architecture import TaskModel
from app.domain.tasks import Task
from app.features.lab.services import lessons
from app.samples.digits import DIGITS, SHEET, SIDE, digit_rows, digits
from worker.engine.data.images import opened, shape_of
from worker.engine.models import digits as training
from worker.engine.models.architecture import describe
from worker.engine.models.inspect import facts_of, inspect, on_task
from worker.engine.models.load import load
from worker.engine.tasks import TASKS

# Two layers (three in BART's and T5's encoders), width 48, three heads of 16 or as the architecture has it.
WIDE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 64,
        "max_position_embeddings": 40, "vocab_size": 64, "pad_token_id": 0}  # fmt: skip
SHARED = {**WIDE, "num_attention_heads": 6, "num_key_value_heads": 2}
NARROW = {**SHARED, "head_dim": 12}
GPT2 = {"n_embd": 48, "n_layer": 2, "n_head": 3, "n_positions": 40, "vocab_size": 64}
T5 = {"d_model": 48, "d_kv": 10, "d_ff": 64, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 3, "vocab_size": 64,
      "decoder_start_token_id": 0}  # fmt: skip
BART = {"d_model": 48, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 3,
        "decoder_attention_heads": 6, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 40,
        "vocab_size": 64, "pad_token_id": 1}  # fmt: skip
OPT = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "ffn_dim": 64, "vocab_size": 64,
       "max_position_embeddings": 40, "word_embed_proj_dim": 48}  # fmt: skip
FALCON = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "vocab_size": 64}
DISTILBERT = {"dim": 48, "n_layers": 2, "n_heads": 3, "hidden_dim": 64, "vocab_size": 64, "max_position_embeddings": 40}

Expected = tuple[int, int, list[str], list[str]]
"""Heads, width of a token's keys, the first block and the last of each stack, linear layers of the first block."""
DECODERS: dict[str, tuple[dict[str, Any], Expected]] = {
    "gpt2": (GPT2, (3, 48, ["transformer.h.0", "transformer.h.1"], ["attn.c_attn", "attn.c_proj", "mlp.c_fc",
                                                                   "mlp.c_proj"])),
    "llama": (SHARED, (6, 16, ["model.layers.0", "model.layers.1"], [
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
        "mlp.down_proj"])),
    "qwen2": (SHARED, (6, 16, ["model.layers.0", "model.layers.1"], [
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
        "mlp.down_proj"])),
    "gemma": (NARROW, (6, 24, ["model.layers.0", "model.layers.1"], [
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
        "mlp.down_proj"])),
    "gemma2": (NARROW, (6, 24, ["model.layers.0", "model.layers.1"], [
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
        "mlp.down_proj"])),
    "gemma3_text": (NARROW, (6, 24, ["model.layers.0", "model.layers.1"], [
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
        "mlp.down_proj"])),
    "opt": (OPT, (3, 48, ["model.decoder.layers.0", "model.decoder.layers.1"], [
        "self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "fc1", "fc2"])),
    "phi": (WIDE, (3, 48, ["model.layers.0", "model.layers.1"], [
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.dense", "mlp.fc1", "mlp.fc2"])),
    "gpt_neox": (WIDE, (3, 48, ["gpt_neox.layers.0", "gpt_neox.layers.1"], [
        "attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"])),
    "falcon": (FALCON, (3, 16, ["transformer.h.0", "transformer.h.1"], [
        "self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"])),
    "t5": (T5, (3, 30, ["encoder.block.0", "encoder.block.2", "decoder.block.0", "decoder.block.1"], [
        "layer.0.SelfAttention.q", "layer.0.SelfAttention.k", "layer.0.SelfAttention.v", "layer.0.SelfAttention.o",
        "layer.1.DenseReluDense.wi", "layer.1.DenseReluDense.wo"])),
    "bart": (BART, (6, 48, ["model.encoder.layers.0", "model.encoder.layers.2", "model.decoder.layers.0",
                            "model.decoder.layers.1"], [
        "self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "fc1", "fc2"])),
}  # fmt: skip
ENCODERS: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "bert": (WIDE, ["classifier"], ["bert.encoder.layer.0", "bert.encoder.layer.1"]),
    "roberta": (WIDE, ["classifier"], ["roberta.encoder.layer.0", "roberta.encoder.layer.1"]),
    "distilbert": (DISTILBERT, ["pre_classifier", "classifier"],
                   ["distilbert.transformer.layer.0", "distilbert.transformer.layer.1"]),
    "deberta-v2": (WIDE, ["pooler", "classifier"], ["deberta.encoder.layer.0", "deberta.encoder.layer.1"]),
}  # fmt: skip


def config(kind: str, sizes: dict[str, Any]) -> PreTrainedConfig:
    made: PreTrainedConfig = CONFIG_MAPPING[kind](**sizes)
    return made


def task_of(kind: str) -> Task:
    return "seq2seq-lm" if kind in ("t5", "bart") else "causal-lm"


def ends(facts: TaskModel) -> list[str]:
    """The first and the last block of each stack."""
    stacks: dict[str, list[str]] = {}
    for block in facts.blocks:
        stacks.setdefault(block.rpartition(".")[0], []).append(block)
    return [block for stack in stacks.values() for block in (stack[0], stack[-1])]


@pytest.mark.parametrize("kind", DECODERS)
def test_a_model_that_writes_is_described_as_it_is(kind: str) -> None:
    sizes, (heads, width, blocks, linear) = DECODERS[kind]
    task = task_of(kind)
    model: PreTrainedModel = TASKS[task].AUTO.from_config(config(kind, sizes))
    facts = describe(model, task)
    assert (facts.attention_heads, facts.hidden_size, facts.layers) == (heads, 48, 2)
    assert ends(facts) == blocks
    assert [m.name.removeprefix(f"{blocks[0]}.") for m in facts.linear if m.name.startswith(f"{blocks[0]}.")] == linear
    assert not facts.head
    assert not any("lm_head" in m.name or "embed_out" in m.name for m in facts.linear)
    assert facts.encoder_decoder == (task == "seq2seq-lm")
    assert facts.total == sum(p.numel() for p in model.parameters())
    # What a layer really keeps of a token's keys.
    ids = torch.tensor([[3, 4, 5]])
    inputs = {"input_ids": ids, "decoder_input_ids": ids} if facts.encoder_decoder else {"input_ids": ids}
    with torch.inference_mode():
        cache = model.eval()(**inputs, use_cache=True).past_key_values
    keys = (cache.self_attention_cache if facts.encoder_decoder else cache).layers[0].keys
    assert facts.key_value_heads == keys.shape[1]
    assert facts.key_value_width == width == keys.shape[1] * keys.shape[3]


@pytest.mark.parametrize("kind", DECODERS)
def test_an_inspection_sees_what_a_run_sees(kind: str) -> None:
    sizes, _ = DECODERS[kind]
    task = task_of(kind)
    made = TASKS[task].AUTO.from_config(config(kind, sizes))
    assert on_task(config(kind, sizes), task) == describe(made, task)


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_is_described_as_it_is(kind: str) -> None:
    sizes, head, blocks = ENCODERS[kind]
    facts = facts_of(config(kind, sizes))
    assert facts.tasks.keys() == {"sequence-classification", "token-classification", "sentence-embeddings"}
    described = facts.tasks["sequence-classification"]
    assert (described.head, described.blocks) == (head, blocks)
    assert (facts.layers, facts.hidden_size, described.attention_heads) == (2, 48, 3)
    assert facts.unable.keys() == {"causal-lm", "seq2seq-lm", "preference", "image-classification"}
    assert facts.tasks["sentence-embeddings"].head == []


MPNET = {**WIDE, "relative_attention_num_buckets": 8}
DEBERTA = {**WIDE, "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm",
           "share_att_key": True, "pos_att_type": ["p2c", "c2p"]}  # fmt: skip
BEHIND: list[tuple[str, dict[str, Any], Task, list[str]]] = [
    ("bert", WIDE, "sequence-classification", ["bert.pooler.dense", "classifier"]),
    ("deberta-v2", DEBERTA, "sequence-classification", ["pooler.dense", "classifier"]),
    ("mpnet", MPNET, "sequence-classification", ["classifier.dense", "classifier.out_proj"]),
    ("bart", BART, "seq2seq-lm", []),
    ("bart", BART, "sequence-classification", ["classification_head.dense", "classification_head.out_proj"]),
    ("opt", OPT, "causal-lm", ["model.decoder.final_layer_norm"]),
    ("opt", OPT, "sequence-classification", ["model.decoder.final_layer_norm", "score"]),
    ("t5", T5, "seq2seq-lm", ["decoder.final_layer_norm"]),
    ("gpt2", GPT2, "causal-lm", ["transformer.ln_f"]),
    ("llama", SHARED, "causal-lm", ["model.norm", "lm_head"]),
]
"""What runs after the last block and has parameters of its own: neither embeddings nor what is tied to them."""


@pytest.mark.parametrize(("kind", "sizes", "task", "expected"), BEHIND, ids=[f"{b[0]}-{b[2]}" for b in BEHIND])
def test_what_follows_the_last_block(kind: str, sizes: dict[str, Any], task: Task, expected: list[str]) -> None:
    facts = on_task(config(kind, sizes), task)
    found = [p.name.rpartition(".")[0] for p in facts.parameters if facts.follows_blocks(p.name)]
    if task == "sequence-classification" and kind == "bart":
        # The head looks for a token's value, which there is none of on meta: it stands last, and trains as a head.
        found += [p.name.rpartition(".")[0] for p in facts.head_parameters]
    assert list(dict.fromkeys(found)) == expected
    trained = {t.name for t in LastLayersSpec(layers=1).trains(facts)}
    outside = {name.rpartition(".")[0] for name in trained if facts.block_of(name) is None}
    assert outside == set(expected)


def test_where_no_forward_pass_tells_the_order_of_declaration_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.models.architecture._behind", {})
    monkeypatch.setattr("worker.engine.models.architecture._inputs", lambda model: {"no_such_argument": 1})
    facts = on_task(config("bert", WIDE), "sequence-classification")
    assert facts.behind is None
    assert facts.follows_blocks("bert.pooler.dense.weight")
    assert not facts.follows_blocks("bert.embeddings.word_embeddings.weight")


def test_t5_and_bart_classify_and_write() -> None:
    for kind in ("t5", "bart"):
        facts = facts_of(config(kind, DECODERS[kind][0]))
        assert facts.tasks.keys() == {"sequence-classification", "seq2seq-lm"}
        others = ("causal-lm", "token-classification", "sentence-embeddings", "preference", "image-classification")
        assert facts.unable.keys() == set(others)
        assert facts.tasks["sequence-classification"].head == ["classification_head"]


def test_the_decoder_of_an_encoder_decoder_is_what_is_told_of() -> None:
    facts = facts_of(BartConfig(**BART))
    assert (facts.layers, facts.hidden_size, facts.max_positions) == (2, 48, 40)
    assert len(facts.tasks["seq2seq-lm"].blocks) == 5


def test_what_is_no_transformer_of_texts_is_refused_in_a_sentence() -> None:
    with pytest.raises(RunFailed, match="'mamba' has no single integer num_attention_heads"):
        facts_of(MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=64))
    with pytest.raises(RunFailed, match=r"'gemma3' has parts beside its text model \(vision_config\)"):
        facts_of(Gemma3Config())
    with pytest.raises(
        RunFailed, match="'swin' supports none of sequence-classification, token-classification, causal-lm, seq2seq-lm"
    ):
        facts_of(config("swin", {}))
    with pytest.raises(RunFailed, match="transformers cannot build this model of type 'bert'"):
        facts_of(config("bert", {**WIDE, "hidden_act": "none of them"}))


@pytest.mark.slow
def test_the_same_seed_trains_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EPOCHS", 1)
    for name in ("one", "two"):
        training.train(tmp_path / name)
    one, two = (inspect(str(tmp_path / name)) for name in ("one", "two"))
    assert one == two and one.tasks.keys() == {"image-classification"}
    assert 130_000 < one.parameters < 150_000
    loaded = load(str(tmp_path / "one"), "", "image-classification", DIGITS, 0)
    assert loaded.missing == [] and shape_of(loaded.processor) == (3, SHEET, SHEET)


def test_a_digit_stands_on_its_sheet_where_its_hash_says() -> None:
    digit = digits()[0]
    own = np.frombuffer(digit.rgb, dtype=np.uint8).reshape(SIDE, SIDE, 3)
    sheet = np.frombuffer(digit.on_sheet(1, 3), dtype=np.uint8).reshape(SHEET, SHEET, 3)
    assert np.array_equal(sheet[3 : 3 + SIDE, 1 : 1 + SIDE], own)
    assert (sheet[:3] == 255).all() and (sheet[:, 1 + SIDE :] == 255).all()
    left = {np.argwhere(np.asarray(opened(row.image)).min((0, 2)) < 128).min() for row in digit_rows()}
    assert len(left) >= SHEET - SIDE + 1, "they do not all stand at one place"


@pytest.mark.slow
@pytest.mark.parametrize("name", list(lessons.architectures()))
def test_an_architecture_is_that_of_its_configuration(name: str) -> None:
    known = lessons.architectures()[name]
    described, built = known.model, on_task(AutoConfig.for_model(**known.config), known.task).with_labels(2)
    described = described.with_labels(2)
    assert {p.name: p.shape for p in described.parameters} == {p.name: p.shape for p in built.parameters}
    assert {m.name: m for m in described.linear} == {m.name: m for m in built.linear}
    same = (
        "blocks", "behind", "head", "hidden_size", "layers", "key_value_heads", "key_value_width", "encoder_decoder",
    )  # fmt: skip
    assert [getattr(described, field) for field in same] == [getattr(built, field) for field in same]
    assert described.default_targets.items() <= built.default_targets.items()
