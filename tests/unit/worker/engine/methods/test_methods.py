"""Every method of the union: what it trains, that it learns, and whether what it keeps can be used elsewhere."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import BottleneckAdapterSpec, MethodSpec, PrefixSpec, QloraSpec
from app.domain.runs.result import RunResult
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine import adapted as tried
from worker.engine.evaluation import audit
from worker.engine.loop.attempt import Attempt
from worker.engine.methods import MECHANISMS, bottleneck
from worker.engine.models.inspect import on_task
from worker.engine.models.load import checkpoint_blocks
from worker.engine.models.precision import freeze_in_bf16, settle


def tries_on(*names: str, mechanisms: Sequence[str] = tuple(MECHANISMS)) -> pytest.MarkDecorator:
    """The methods that fit these kinds of models."""
    tries = [(spec, name) for spec, name in tried.TRIES if name in names and spec.mechanism in mechanisms]
    return tried.tries_on(tries)


every_try = tries_on(*tried.MODELS)
RUN = [spec for spec in tried.EVERY if not isinstance(spec, QloraSpec)]
"""QLoRA's base model is packed, which it has tests of its own for."""
every_run = pytest.mark.parametrize("spec", RUN, ids=lambda spec: spec.kind)


def put(spec: MethodSpec, name: str) -> nn.Module:
    """A method on a tiny model."""
    model = tried.model(name)
    torch.manual_seed(0)
    return MECHANISMS[spec.mechanism].apply(model, spec, tried.facts(name))


def test_a_method_fits_every_kind_of_model_but_those_that_are_known_not_to() -> None:
    for spec in tried.EVERY:
        for name in tried.MODELS:
            fault = spec.incompatibility(tried.facts(name))
            assert (fault is not None) == ((spec.kind, name) in tried.UNFIT), (spec.kind, name, fault)
            assert fault is None or (fault.message and fault.remedy and fault.path)


@every_try
def test_what_trains_is_what_the_method_says_and_what_is_counted_before_queueing(spec: MethodSpec, name: str) -> None:
    task = tried.MODELS[name]
    model = tried.model(name)
    counted = on_task(model.config, task).with_labels(3)
    expected = spec.trains(counted)
    assert expected == spec.trains(tried.facts(name))
    adapted = put(spec, name)
    audit.check_trainable(adapted, expected)
    assert spec.trainable(counted) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    names = {n for n, _ in model.named_modules()}
    assert set(spec.touches(counted)) <= names, "it touches modules that are there"


@every_try
def test_it_learns_and_leaves_the_rest_as_it_was(spec: MethodSpec, name: str) -> None:
    adapted = put(spec, name)
    before = audit.hashes(adapted)
    losses = list(tried.steps(adapted, spec, name, 4))
    assert losses[-1] < losses[0]
    expected = spec.trains(tried.facts(name))
    returned = [t.name for t in expected if t.may_return]
    audit.compare(before, adapted, {t.name: t.group for t in expected}, (), returned)


@tries_on("bert", "t5")
def test_it_learns_with_a_frozen_base_in_bfloat16(spec: MethodSpec, name: str) -> None:
    model = tried.model(name)
    facts = tried.facts(name)
    settle(
        model,
        {t.name for t in spec.trains(facts)} | {p.name for p in facts.head_parameters},
        next(model.parameters()).device,
        bf16=True,
    )
    torch.manual_seed(0)
    adapted = MECHANISMS[spec.mechanism].apply(model, spec, facts)
    kept = freeze_in_bf16(adapted)
    audit.check_trainable(adapted, spec.trains(facts))
    assert kept == ("bfloat16" if spec.freezes_base else "float32")
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
    losses = list(tried.steps(adapted, spec, name, 4, bf16=True))
    assert losses[-1] < losses[0]


@tries_on("bert", "gpt2")
def test_gradient_checkpointing_runs_blocks_again_and_changes_no_number(spec: MethodSpec, name: str) -> None:
    if "gradient_checkpointing" in spec.without:
        pytest.skip("it says that it cannot")
    plain = put(spec, name)
    again = put(spec, name)
    inner = next(m for m in again.modules() if isinstance(m, PreTrainedModel))
    checkpoint_blocks(inner)
    calls: list[nn.Module] = []
    last = inner.get_submodule(tried.facts(name).blocks[-1])
    next(last.children()).register_forward_pre_hook(lambda module, _: calls.append(module))
    assert list(tried.steps(again, spec, name, 3)) == pytest.approx(list(tried.steps(plain, spec, name, 3)), rel=1e-5)
    # Nothing is computed again where no gradient goes.
    assert len(calls) == 3 * (1 if spec.kind == "head-only" else 2)


@tries_on(*tried.MODELS, mechanisms=("peft", "scratch"))
def test_an_adapter_loads_with_peft_and_gives_the_same_logits(spec: MethodSpec, name: str, tmp_path: Path) -> None:
    adapted = put(spec, name)
    list(tried.steps(adapted, spec, name, 3))
    folder = save(adapted, spec, name, tmp_path)
    fresh = PeftModel.from_pretrained(tried.model(name), folder).eval()
    with torch.inference_mode():
        torch.testing.assert_close(tried.logits(fresh, name), tried.logits(adapted, name), rtol=0, atol=1e-5)


def save(adapted: nn.Module, spec: MethodSpec, name: str, directory: Path) -> Path:
    """What one keeps of it."""
    run = SimpleNamespace(base_model="tiny", task=tried.MODELS[name], method=spec)
    return MECHANISMS[spec.mechanism].save(adapted, None, run, directory)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Callable[[MethodSpec], tuple[RunResult, tiny.Recorder, Path]]:
    """A whole run of a method on tiny BERT, or on tiny GPT-2 if it is for language models; each runs once."""
    bases = models(tmp_path_factory.mktemp("bases"))
    done: dict[str, tuple[RunResult, tiny.Recorder, Path]] = {}

    def run(spec: MethodSpec) -> tuple[RunResult, tiny.Recorder, Path]:
        if spec.kind not in done:
            done[spec.kind] = whole(tmp_path_factory.mktemp(spec.kind), spec, bases)
        return done[spec.kind]

    return run


def models(directory: Path) -> Path:
    """A folder with both base models."""
    tiny.save_model(directory / "bert")
    tiny_lm.save_model(directory / "gpt2", "gpt2", **tried.STILL["gpt2"])
    return directory


def whole(directory: Path, spec: MethodSpec, bases: Path) -> tuple[RunResult, tiny.Recorder, Path]:
    """Run a method from beginning to end."""
    recorder = tiny.Recorder()
    if "sequence-classification" in spec.facts.tasks:
        job = tiny.job(directory, bases / "bert", spec, tiny.FAST.model_copy(update={"learning_rate": 1e-2}))
    else:
        training = tiny_lm.FAST.model_copy(update={"learning_rate": 1e-2, "num_train_epochs": 4})
        job = tiny_lm.job(directory, bases / "gpt2", "causal-lm", tiny_lm.pairs(), method=spec, training=training)
    return Attempt(job, recorder).run(), recorder, Path(job.output)


Run = Callable[[MethodSpec], tuple[RunResult, tiny.Recorder, Path]]


@pytest.mark.by_day
@every_run
def test_a_run_passes_the_audit_and_its_loss_falls(attempt: Run, spec: MethodSpec) -> None:
    result, recorder, _ = attempt(spec)
    assert result.audit.passed
    losses = [s.loss for s in recorder.seen]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    config = tiny.config() if "sequence-classification" in spec.facts.tasks else tiny_lm.config("gpt2")
    task = "sequence-classification" if "sequence-classification" in spec.facts.tasks else "causal-lm"
    assert result.parameters.trainable == spec.trainable(on_task(config, task).with_labels(3))
    assert sum(result.parameters.by_module.values()) == result.parameters.trainable


@pytest.mark.by_day
@every_run
def test_the_same_seed_gives_the_same_losses(attempt: Run, spec: MethodSpec, tmp_path: Path) -> None:
    _, first, _ = attempt(spec)
    _, again, _ = whole(tmp_path / "run", spec, models(tmp_path))
    assert [(s.loss, s.grad_norm) for s in again.seen] == [(s.loss, s.grad_norm) for s in first.seen]


@pytest.mark.by_day
@every_run
def test_what_is_kept_answers_as_the_model_that_trained(attempt: Run, spec: MethodSpec) -> None:
    if "sequence-classification" not in spec.facts.tasks:
        pytest.skip("its logits are no artifact; see the test above")
    result, _, output = attempt(spec)
    model = loaded(spec, output).eval()
    predictions = pq.read_table(output / "predictions.parquet")
    words = tiny.tokenizer()
    for text, scores in zip(predictions["text"].to_pylist(), predictions["scores"].to_pylist(), strict=True):
        with torch.inference_mode():
            found = model(**words(text, return_tensors="pt", return_token_type_ids=False)).logits
        np.testing.assert_allclose(found.softmax(1)[0].numpy(), scores, atol=1e-5)
    for artifact in result.artifacts:
        assert artifact.bytes == (output / artifact.name).stat().st_size
    assert {a.kind for a in result.artifacts} == {
        "model" if spec.facts.family == "full" else "adapter", "predictions", "metrics"
    }  # fmt: skip


def loaded(spec: MethodSpec, output: Path) -> nn.Module:
    """Load what was kept as a stranger would."""
    if spec.facts.family == "full":
        return AutoModelForSequenceClassification.from_pretrained(output / "model")
    torch.manual_seed(1234)
    base = output.parent / "again"
    tiny.save_model(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(tiny.LABELS))
    if spec.mechanism in ("peft", "scratch"):
        return PeftModel.from_pretrained(model, output / "adapter")
    if isinstance(spec, BottleneckAdapterSpec):
        return bottleneck.load(model, output / "adapter")
    left = model.load_state_dict(load_file(output / "adapter" / "selection.safetensors"), strict=False)
    assert not left.unexpected_keys
    return model


@every_run
def test_an_adapter_holds_what_trained_and_little_more(attempt: Run, spec: MethodSpec) -> None:
    result, _, output = attempt(spec)
    folder = output / ("model" if spec.facts.family == "full" else "adapter")
    weights = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    header = 300 * sum(len(load_file(f)) for f in folder.glob("*.safetensors"))
    shared = 4 * 16 * (32 + 32) if spec.kind == "vera" else 0
    assert weights <= 4 * result.parameters.trainable + shared + header
    if spec.kind not in ("adalora", "p-tuning"):  # those keep less than they train
        assert weights >= 4 * result.parameters.trainable


@every_run
def test_what_is_kept_tells_nothing_of_this_machine(attempt: Run, spec: MethodSpec) -> None:
    _, _, output = attempt(spec)
    for file in output.rglob("*.json"):
        assert str(output.parent.parent) not in file.read_text()
    if spec.mechanism == "peft":
        config = json.loads((output / "adapter" / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "tiny"
        assert list(config) == sorted(config)
        names = config.get("target_modules")
        assert not isinstance(names, list) or names == sorted(names), "PEFT keeps them in a set"
    assert not list(output.rglob(".*")), "the checkpoint is gone"


def test_what_does_not_fit_is_refused_with_the_field_and_the_remedy(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"kind: .*prefix tuning does not support the task.*causal-lm") as failed:
        Attempt(tiny.job(tmp_path, base, PrefixSpec()), tiny.Recorder()).run()
    assert failed.value.code is FailureCode.BAD_CONFIGURATION
