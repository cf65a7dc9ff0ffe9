"""Loading a base model: the head depends on the seed alone, and what is unsafe or absent is refused in a sentence."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import FullSpec
from app.domain.resources.estimate import EstimateRequest
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Task
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.estimation.unloaded import configuration
from worker.engine.loop.attempt import Attempt
from worker.engine.models.inspect import inspect
from worker.engine.models.load import load, load_config


def _head(directory: Path, seed: int) -> torch.Tensor:
    return (
        load(str(directory), "", "sequence-classification", tiny.LABELS, seed)
        .model.get_parameter("classifier.weight")
        .detach()
    )


def test_the_head_depends_on_the_seed_and_the_configuration_has_labels(base: Path) -> None:
    first = _head(base, 0)
    torch.rand(17)
    assert torch.equal(first, _head(base, 0))
    assert not torch.equal(first, _head(base, 1))
    assert 0.05 < first.std() < 0.2, "the configuration's initializer_range is 0.1"
    loaded = load(str(base), "", "sequence-classification", tiny.LABELS, 0)
    assert loaded.model.config.id2label == dict(enumerate(tiny.LABELS))
    assert loaded.model.dtype is torch.float32
    assert loaded.missing == []


@pytest.mark.parametrize("labels", [3, 7])
def test_a_head_that_the_checkpoint_brings_along_is_replaced(base: Path, tmp_path: Path, labels: int) -> None:
    directory = tiny.save_classifier(tmp_path / "trained", labels)
    assert torch.equal(_head(directory, 5), _head(base, 5))


def test_parts_of_the_base_model_that_the_checkpoint_lacks_are_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny.BertModel(tiny.config(), add_pooling_layer=False).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    loaded = load(str(tmp_path), "", "sequence-classification", tiny.LABELS, 0)
    assert loaded.missing == ["bert.pooler.dense.bias", "bert.pooler.dense.weight"]


def _change_config(directory: Path, **changes: object) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _pickled(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def _broken(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"\x00" * 100)


def _remote(directory: Path) -> None:
    _change_config(directory, model_type="mystery", auto_map={"AutoConfig": "mystery.Config"})


def _mixture(directory: Path) -> None:
    _change_config(directory, hidden_size=48)


def _vision(directory: Path) -> None:
    _change_config(directory, model_type="vit", architectures=["ViTModel"])


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (shutil.rmtree, FailureCode.MODEL_UNAVAILABLE, "does not exist"),
        (_pickled, FailureCode.MODEL_UNAVAILABLE, r"pytorch_model\.bin.*can run code"),
        (_broken, FailureCode.MODEL_UNAVAILABLE, "could not be read"),
        (_remote, FailureCode.MODEL_UNAVAILABLE, "never run"),
        (_mixture, FailureCode.MODEL_UNAVAILABLE, "another shape"),
        (_vision, FailureCode.BAD_CONFIGURATION, "no sequence-classification model of type 'vit'"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(tmp_path: Path, damage, code, words: str) -> None:
    directory = tiny.save_model(tmp_path / "model")
    damage(directory)
    with pytest.raises(RunFailed, match=words) as failed:
        load(str(directory), "", "sequence-classification", tiny.LABELS, 0)
    assert failed.value.code is code
    assert str(tmp_path) not in failed.value.message


def test_a_known_architecture_is_used_without_its_repository_code(tmp_path: Path) -> None:
    directory = tiny.save_model(tmp_path / "model")
    _change_config(directory, auto_map={"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.M"})
    (directory / "evil.py").write_text("raise SystemExit('executed')")
    loaded = load(str(directory), "", "sequence-classification", tiny.LABELS, 0)
    assert "auto_map" not in loaded.model.config.to_dict()


def test_a_configuration_cannot_name_a_program_to_be_fetched(tmp_path: Path) -> None:
    """transformers takes an implementation with a slash for a kernel on the hub: it would fetch it, and import it."""
    directory = tiny.save_model(tmp_path / "model")
    _change_config(
        directory,
        attn_implementation="evil/kernel",
        _attn_implementation="evil/kernel",
        experts_implementation="evil/k",
    )
    config = load_config(str(directory), "")
    assert (config._attn_implementation, config._experts_implementation) == (None, None)
    pasted = EstimateRequest(
        location="", config=json.loads((directory / "config.json").read_text()), task="sequence-classification",
        labels=2, method=FullSpec(), training=TrainingArguments(), device="cpu", bf16=False,
    )  # fmt: skip
    assert configuration(pasted)._attn_implementation is None
    assert inspect(str(directory)).architecture == "BertModel"
    loaded = load(str(directory), "", "sequence-classification", tiny.LABELS, 0)
    assert loaded.model.config._attn_implementation == "sdpa"


def test_quantised_weights_absent_models_and_tokenizers_without_padding_are_refused(tmp_path: Path) -> None:
    directory = tiny.save_model(tmp_path / "model")
    _change_config(directory, quantization_config={"quant_method": "fp8"})
    with pytest.raises(RunFailed, match=r"already quantized \(fp8\)\. Choose the original"):
        load_config(str(directory), "")
    with pytest.raises(RunFailed) as failed:
        load("nobody/nothing", "", "sequence-classification", tiny.LABELS, 0)
    assert failed.value.code is FailureCode.MODEL_UNAVAILABLE
    base = tiny.save_model(tmp_path / "base")
    words = tiny.tokenizer()
    PreTrainedTokenizerFast(tokenizer_object=words.backend_tokenizer).save_pretrained(base)
    with pytest.raises(RunFailed, match=r"no padding token.*Set pad_token in its tokenizer_config\.json") as failed:
        load(str(base), "", "sequence-classification", tiny.LABELS, 0)
    assert failed.value.code is FailureCode.BAD_CONFIGURATION


@pytest.mark.by_day
@pytest.mark.parametrize(
    ("task", "kind", "auto"), [("causal-lm", "gpt2", AutoModelForCausalLM), ("seq2seq-lm", "t5", AutoModelForSeq2SeqLM)]
)
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_a_whole_model_loads_with_its_weights(tmp_path: Path, task: Task, kind: str, auto: Any, bf16: bool) -> None:
    base = tiny_lm.save_model(tmp_path / "base", kind)
    training = tiny_lm.FAST.model_copy(update={"bf16": bf16})
    job = tiny_lm.job(tmp_path, base, task, tiny_lm.pairs(), training=training)
    attempt = Attempt(job, tiny.Recorder())
    mechanism, seen = attempt.mechanism, []

    def keep(model: Any, *arguments: Any) -> Path:
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return mechanism.save(model, *arguments)

    attempt.mechanism = SimpleNamespace(apply=mechanism.apply, companion=mechanism.companion, save=keep)
    attempt.run()
    found = auto.from_pretrained(tmp_path / "output" / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "output" / "model")
    assert tokenizer("count from one :")["input_ids"]
    loaded = dict(found.named_parameters())
    assert loaded.keys() == seen[0].keys()
    assert all(
        torch.equal(loaded[name], value) and loaded[name].dtype is torch.float32 for name, value in seen[0].items()
    )
