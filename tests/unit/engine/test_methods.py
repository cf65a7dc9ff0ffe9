"""What each method trains, and whether what it saves can be used elsewhere."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from app.domain.errors import RunFailed
from app.domain.methods import METHODS as FACTS
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec, MethodSpec
from app.domain.runs import FailureCode
from tests import tiny
from worker.engine.attempt import Attempt, count
from worker.engine.audit import check_trainable
from worker.engine.inspect import describe
from worker.engine.methods import METHODS
from worker.engine.model import load

LORAS = [
    LoraSpec(r=4),
    LoraSpec(r=2, target_modules="all-linear"),
    LoraSpec(r=4, target_modules=["dense"]),
    LoraSpec(r=4, target_modules=["query", "value"], use_dora=True),
    LoraSpec(r=4, target_modules=["query"], use_rslora=True, bias="lora_only"),
    LoraSpec(r=4, target_modules=["query"], bias="all"),
]


def test_every_method_of_the_domain_has_a_file() -> None:
    assert set(METHODS) == set(FACTS)


@pytest.mark.parametrize("spec", [FullSpec(), HeadOnlySpec(), *LORAS], ids=str)
def test_what_trains_is_what_the_rule_says_and_what_inspection_counts(base: Path, spec: MethodSpec) -> None:
    model = load(str(base), "", tiny.LABELS, seed=0).model
    method, facts = METHODS[spec.kind], describe(tiny.config())
    expected = method.expected_trainable(model, spec)
    adapted = method.apply(model, spec)
    check_trainable(adapted, expected)
    if not (isinstance(spec, LoraSpec) and spec.bias != "none"):
        assert count(adapted, method).trainable == facts.trainable_parameters(spec, len(tiny.LABELS))


def test_lora_trains_as_many_parameters_as_peft_says(base: Path) -> None:
    model = load(str(base), "", tiny.LABELS, seed=0).model
    adapted = METHODS["lora"].apply(model, LoraSpec(r=4, target_modules=["query", "value"]))
    by_hand = get_peft_model(
        load(str(base), "", tiny.LABELS, seed=0).model,
        LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules=["query", "value"]),
    )
    parameters = count(adapted, METHODS["lora"])
    assert (parameters.trainable, parameters.total) == by_hand.get_nb_trainable_parameters()
    assert parameters.by_module == {
        "lora_A, lora_B of query": 2 * 4 * 64,
        "lora_A, lora_B of value": 2 * 4 * 64,
        "classifier": 99,
    }


def test_a_target_that_the_model_lacks_is_refused_with_the_real_names(base: Path) -> None:
    model = load(str(base), "", tiny.LABELS, seed=0).model
    with pytest.raises(RunFailed, match=r"no linear module 'q_proj'.*query, key, value, dense") as failed:
        METHODS["lora"].expected_trainable(model, LoraSpec(target_modules=["query", "q_proj"]))
    assert failed.value.code is FailureCode.BAD_CONFIGURATION


def test_before_the_first_step_lora_answers_as_the_base_model(base: Path) -> None:
    ids = torch.tensor([[2, 11, 12, 3]])
    plain = load(str(base), "", tiny.LABELS, seed=3).model.eval()
    adapted = METHODS["lora"].apply(load(str(base), "", tiny.LABELS, seed=3).model, LoraSpec(r=4)).eval()
    assert torch.equal(plain(input_ids=ids).logits, adapted(input_ids=ids).logits)


def _loaded(kind: str, base: Path, output: Path) -> PreTrainedModel | PeftModel:
    """Load what was saved as a stranger would."""
    if kind == "full":
        return AutoModelForSequenceClassification.from_pretrained(output / "model")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(tiny.LABELS))
    if kind == "lora":
        return PeftModel.from_pretrained(model, output / "adapter")
    left = model.load_state_dict(load_file(output / "adapter" / "head.safetensors"), strict=False)
    assert not left.unexpected_keys
    return model


@pytest.mark.parametrize("spec", tiny.METHODS, ids=lambda s: s.kind)
def test_what_is_saved_answers_as_the_model_that_trained(
    base: Path, tmp_path: Path, recorder: tiny.Recorder, spec: MethodSpec
) -> None:
    job = tiny.job(tmp_path, base, spec)
    result = Attempt(job, recorder).run()
    output = Path(job.output)
    model = _loaded(spec.kind, base, output).eval()
    predictions = pq.read_table(output / "predictions.parquet")
    words = tiny.tokenizer()
    for text, scores in zip(predictions["text"].to_pylist(), predictions["scores"].to_pylist(), strict=True):
        with torch.inference_mode():
            logits = model(**words(text, return_tensors="pt", return_token_type_ids=False)).logits
        np.testing.assert_allclose(logits.softmax(1)[0].numpy(), scores, atol=1e-5)
    for artifact in result.artifacts:
        assert artifact.bytes == (output / artifact.name).stat().st_size
    assert {a.kind for a in result.artifacts} == {
        "model" if spec.kind == "full" else "adapter", "predictions", "metrics"
    }  # fmt: skip
    assert not [p for p in output.rglob(".*")], "the checkpoint is gone"


@pytest.mark.parametrize("spec", tiny.METHODS, ids=lambda s: s.kind)
def test_what_is_saved_tells_nothing_of_this_machine(
    base: Path, tmp_path: Path, recorder: tiny.Recorder, spec: MethodSpec
) -> None:
    job = tiny.job(tmp_path, base, spec, tiny.FAST.model_copy(update={"max_steps": 2}))
    Attempt(job, recorder).run()
    for file in Path(job.output).rglob("*.json"):
        assert str(base) not in file.read_text()
    if spec.kind == "lora":
        saved = json.loads((Path(job.output) / "adapter" / "adapter_config.json").read_text())
        assert saved["base_model_name_or_path"] == "tiny"
