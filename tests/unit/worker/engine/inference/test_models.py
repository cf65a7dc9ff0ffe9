"""Loaded models: each computes what its run computes, adapters share their base model, and memory is respected."""

import gc
import weakref
from pathlib import Path

import pytest
import torch

from app.domain.errors import Unavailable
from app.domain.methods import (
    BitFitSpec,
    BottleneckAdapterSpec,
    FullSpec,
    HeadOnlySpec,
    LoraSpec,
    MethodSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
)
from app.domain.models.hub_access import HubAccess
from tests.support.rows import inferred
from tests.unit.worker.engine import adapted as tried
from worker.engine.inference import models as inference_models
from worker.engine.inference.models import WORKING_BYTES, Models
from worker.engine.models.load import load


def storages(model: torch.nn.Module) -> set[int]:
    return {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_runs_of_one_base_model_share_its_tensors_and_answer_as_trained(name: str, tmp_path: Path) -> None:
    own: list[MethodSpec] = [BitFitSpec(), HeadOnlySpec()] if name == "bert" else [PrefixSpec(num_virtual_tokens=4)]
    pissa = LoraSpec(r=2, init_lora_weights="pissa")
    specs: list[MethodSpec] = [LoraSpec(r=4), pissa, BottleneckAdapterSpec(bottleneck_size=8), *own, FullSpec()]
    runs = [inferred.trained(tmp_path, spec, name, number) for number, spec in enumerate(specs, 1)]
    base = load(str(tmp_path / "1" / "base"), "", tried.MODELS[name], runs[0][0].job.labels, 0).model.eval()
    jobs = [job for job, _model in runs]
    held = inferred.models().ready([*jobs, inferred.base_of(jobs[0])], 0, lambda *_: None, lambda: None)
    with torch.inference_mode():
        for loaded, (_job, trained), spec in zip(held, runs, specs, strict=False):
            torch.testing.assert_close(tried.logits(loaded.model, name), tried.logits(trained, name), msg=spec.kind)
        torch.testing.assert_close(tried.logits(held[-1].model, name), tried.logits(base, name), msg="base model")
    shared = storages(held[0].model)
    *adapters, full, untrained = held
    for loaded in (*adapters, untrained):
        assert len(storages(loaded.model) & shared) > 10, loaded.job.job.spec.method.kind
    assert not storages(full.model) & shared and full.base is None


@pytest.mark.slow
def test_a_loaded_model_does_not_serve_with_another_access_to_the_hub(tmp_path: Path) -> None:
    """The token was removed or replaced, or the run has another owner; what a run saved as a whole needs none."""
    runs = [inferred.trained(tmp_path, spec, "bert", number)[0] for number, spec in enumerate((LoraSpec(), FullSpec()))]
    models, loading = inferred.models(), list[int]()
    ada, new = HubAccess(user_id=1, token="hf_ada"), HubAccess(user_id=1, token="hf_new")
    for access in (ada, ada, new, HubAccess(user_id=2, token="hf_new"), None, None):
        jobs = [job.model_copy(update={"hub": access}) for job in runs]
        held = models.ready(jobs, 0, lambda place, _bytes: loading.append(place), lambda: None)
        assert held[0].job.hub == access and len(models._bases) == 1
    assert loading == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("kind", [PromptSpec, PrefixSpec, PTuningSpec])
def test_virtual_tokens_generate_what_forward_passes_predict(kind: type[MethodSpec], tmp_path: Path) -> None:
    job, trained = inferred.trained(tmp_path, kind.model_validate({"num_virtual_tokens": 4}), "llama")
    held = inferred.models().ready([job], 0, lambda *_: None, lambda: None)[0]
    prompt = torch.tensor([[3, 4, 5, 6]])
    options = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 12, "do_sample": False}
    ids = prompt
    with torch.inference_mode():
        for _token in range(12):
            logits = trained(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
        written = held.model.generate(input_ids=prompt, eos_token_id=None, **options)
    assert written.tolist() == ids.tolist()


@pytest.mark.by_day
@pytest.mark.parametrize("bias", ["all", "lora_only"])
@pytest.mark.parametrize("named", [True, False], ids=["own", "spoilt"])
def test_biases_change_no_other_run(bias: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`spoilt`: as if a method saved tensors under names that are not recognized as the base model's."""
    if not named:
        monkeypatch.setattr(inference_models, "_stored", lambda _weights: set())
    specs = [LoraSpec(r=4), LoraSpec.model_validate({"r": 4, "bias": bias})]
    runs = [inferred.trained(tmp_path, spec, "bert", number) for number, spec in enumerate(specs, 1)]
    jobs = [job for job, _model in runs]
    models = inferred.models()
    models.ready(jobs[:1], 0, lambda *_: None, lambda: None)
    loading: list[int] = []
    held = models.ready(jobs, 0, lambda place, _bytes: loading.append(place), lambda: None)
    assert (held[1].base is not None) == named and loading == ([1] if named else [1, 0])
    with torch.inference_mode():
        for loaded, (_job, trained) in zip([*held, *models.ready(jobs, 0, lambda *_: None, lambda: None)],
                                           runs * 2, strict=True):  # fmt: skip
            torch.testing.assert_close(tried.logits(loaded.model, "bert"), tried.logits(trained, "bert"))


def test_bfloat16_rounds_parameters_and_no_rotary_frequencies(tmp_path: Path) -> None:
    job, _model = inferred.trained(tmp_path, LoraSpec(r=4), "llama")
    job = job.model_copy(update={"dtype": "bfloat16"})
    held = inferred.models().ready([job, inferred.base_of(job)], 0, lambda *_: None, lambda: None)
    for loaded in held:
        assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}
        floats = [buffer for buffer in loaded.model.buffers() if buffer.is_floating_point()]
        assert floats and {buffer.dtype for buffer in floats} == {torch.float32}


@pytest.mark.slow
def test_the_prediction_counts_a_shared_base_model_once_and_a_whole_model_alone(tmp_path: Path) -> None:
    one, two, full = (
        inferred.trained(tmp_path, spec, "bert", number)[0]
        for number, spec in enumerate((LoraSpec(r=4), LoraSpec(r=2), FullSpec()), 1)
    )
    models = inferred.models()
    assert models.predicted([one]) == 1010
    assert models.predicted([one, two, inferred.base_of(one)]) == 1020
    assert models.predicted([one, full]) == 2010
    models.ready([one], 0, lambda *_: None, lambda: None)
    assert models.predicted([one, two]) == 10
    other_type = two.model_copy(update={"dtype": "bfloat16"})
    assert models.predicted([other_type]) == 1010, "another type is another base model in memory"


def test_models_that_do_not_fit_beside_a_run_are_refused_with_the_numbers(tmp_path: Path) -> None:
    job, _model = inferred.trained(tmp_path, LoraSpec(r=4), "bert")
    job = job.model_copy(update={"base_bytes": 300 << 20})
    models = Models(lambda: 700 << 20)
    with pytest.raises(Unavailable) as refused:
        models.ready([job], 400 << 20, lambda *_: None, lambda: None)
    needed = ((300 << 20) + WORKING_BYTES) >> 20
    assert f"take {needed} MiB" in refused.value.message and "300 MiB free" in refused.value.message
    assert "another 400 MiB" in refused.value.message
    assert models.keys == []
    models.ready([job], 0, lambda *_: None, lambda: None)  # the run has ended
    assert models.keys == [job.key]


@pytest.mark.slow
def test_the_model_that_was_unused_for_the_longest_time_gives_way(tmp_path: Path) -> None:
    jobs = [inferred.trained(tmp_path, FullSpec(), "bert", number)[0] for number in (1, 2, 3)]
    models = inferred.models()
    for job in jobs[:2]:
        models.ready([job], 0, lambda *_: None, lambda: None)
    models.ready(jobs[:1], 0, lambda *_: None, lambda: None)  # the first is used again
    gone = weakref.ref(models.ready(jobs[1:2], 0, lambda *_: None, lambda: None)[0].model)
    models.ready(jobs[:1], 0, lambda *_: None, lambda: None)
    answers = iter([0, inferred.PLENTY])
    models._available = lambda: next(answers)
    models.ready(jobs[2:], 0, lambda *_: None, lambda: None)
    gc.collect()
    assert models.keys == [jobs[0].key, jobs[2].key] and gone() is None


@pytest.mark.slow
def test_idle_models_and_the_base_model_that_only_they_shared_are_unloaded(tmp_path: Path) -> None:
    job, _model = inferred.trained(tmp_path, LoraSpec(r=4), "bert")
    models = inferred.models()
    held = models.ready([job], 0, lambda *_: None, lambda: None)[0]
    used, gone = held.used_at, weakref.ref(held.model)
    models.unload(used - 1)
    assert models.keys == [job.key] and models.bytes == 1010
    del held
    models.unload(used + 1)
    assert models.keys == [] and models.bytes == 0 and gone() is None
