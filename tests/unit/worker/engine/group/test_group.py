"""Several LoRA trainings on one base model: each has the losses that it has alone."""

import math
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertModel

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import LoraSpec
from app.domain.runs.job import TrainJob
from app.domain.runs.result import RunResult
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.group import joint
from worker.engine.group.attempt import TrainsAlone, run_group
from worker.engine.loop import attempt
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.progress import Stopped
from worker.engine.loop.step import optimizer_of

LORA = LoraSpec(r=4, target_modules=["query", "value"])
RATES = (1e-3, 3e-3, 1e-2)
CLIPPED = tiny.FAST.model_copy(update={"max_grad_norm": 0.5, "num_train_epochs": 2, "weight_decay": 0.1})
TOLERANCE = 2e-5
"""Of losses and norms, relative, in float32: a joint pass sums in another order."""
Jobs = Callable[[str], list[TrainJob]]


def together(jobs: Sequence[TrainJob], sinks: Sequence[tiny.Recorder] | None = None) -> list[Any]:
    """The result or the error of each job, and its sink."""
    sinks = sinks or [tiny.Recorder() for _job in jobs]
    ends: list[Any] = [None] * len(jobs)

    def ended(place: int, end: RunResult | BaseException, ended: Attempt | None) -> None:
        ends[place] = end

    run_group(jobs, sinks, ended)
    return list(zip(ends, sinks, strict=True))


def alone(job: TrainJob, stop_at: int | None = None) -> tuple[Any, tiny.Recorder]:
    sink = tiny.Recorder(stop_at=stop_at)
    return Attempt(job, sink).run(), sink


def numbers(sink: tiny.Recorder) -> list[tuple[float, float]]:
    return [(step.loss, step.grad_norm) for step in sink.seen]


def close(actual: Sequence[tuple[float, float]], expected: Sequence[tuple[float, float]], rel: float) -> bool:
    assert len(actual) == len(expected) > 0
    return all(a == pytest.approx(b, rel=rel) for a, b in zip(actual, expected, strict=True))


def classifiers(directory: Path, base: Path, seeds: Sequence[int] = (0, 0, 0), **changes: object) -> list[TrainJob]:
    """A job for each of the rates."""
    method = LORA.model_copy(update={"lora_dropout": changes.pop("lora_dropout", 0.0)})
    found = []
    for place, (rate, seed) in enumerate(zip(RATES, seeds, strict=True)):
        training = CLIPPED.model_copy(update={"learning_rate": rate, "seed": seed} | changes)
        found.append(tiny.job(directory / str(place), base, method, training).model_copy(update={"trial": True}))
    return found


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without dropout."""
    return tiny.save_model(tmp_path_factory.mktemp("still"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "dropout"), [((0, 0, 0), True), ((3, 4, 5), True), pytest.param((3, 4, 5), False, marks=pytest.mark.slow)]
)
def test_each_training_has_the_losses_evaluations_and_weights_of_its_own(
    base: Path, still: Path, tmp_path: Path, seeds: tuple[int, ...], dropout: bool
) -> None:
    """With three seeds the members' batches have different rows, in different lengths."""
    model, more = (base, {"lora_dropout": 0.1}) if dropout else (still, {})
    group = together(classifiers(tmp_path / "group", model, seeds, **more))
    for (result, sink), job in zip(group, classifiers(tmp_path / "alone", model, seeds, **more), strict=True):
        expected, own = alone(job)
        assert close(numbers(sink), numbers(own), TOLERANCE)
        assert any(norm > CLIPPED.max_grad_norm for _loss, norm in numbers(own)), "some steps are clipped"
        assert [e.loss for e in result.evaluations] == pytest.approx([e.loss for e in expected.evaluations], rel=1e-4)
        assert (result.best_step, result.tokens, result.data) == (expected.best_step, expected.tokens, expected.data)
        assert result.audit == expected.audit and result.parameters == expected.parameters
        assert result.trained_together == 3 and expected.trained_together == 1


@pytest.mark.slow
def test_seeds_of_an_arm_have_the_test_scores_and_files_of_their_own(base: Path, tmp_path: Path) -> None:
    def seeds(name: str) -> list[TrainJob]:
        jobs = classifiers(tmp_path / name, base, (3, 4, 5), learning_rate=3e-3)
        return [job.model_copy(update={"trial": False, "weight_delta_seconds": 5.0}) for job in jobs]

    group = together(jobs := seeds("group"))
    for (result, sink), job, own in zip(group, seeds("alone"), jobs, strict=True):
        expected, solo = alone(job)
        assert close(numbers(sink), numbers(solo), TOLERANCE)
        assert [e.subject for e in result.evaluations] == [e.subject for e in expected.evaluations]
        assert [e.loss for e in result.evaluations] == pytest.approx([e.loss for e in expected.evaluations], rel=1e-4)
        assert [file.name for file in result.artifacts] == [file.name for file in expected.artifacts]
        files = [Path(folder) / "adapter" / "adapter_model.safetensors" for folder in (own.output, job.output)]
        weights, solo_weights = map(load_file, files)
        assert weights.keys() == solo_weights.keys()
        assert all(torch.allclose(weights[name], solo_weights[name], atol=1e-4) for name in weights)


def test_a_seed_whose_base_model_has_other_random_weights_trains_alone(tmp_path: Path) -> None:
    """The checkpoint lacks the pooler."""
    torch.manual_seed(1)
    BertModel(tiny.config(), add_pooling_layer=False).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    jobs = classifiers(tmp_path / "group", tmp_path / "model", (3, 4, 3), max_steps=4)
    (first, _), (other, _), (last, sink) = together(jobs)
    assert isinstance(other, TrainsAlone) and "pooler" in str(other)
    assert isinstance(first, RunResult) and isinstance(last, RunResult)
    expected = alone(classifiers(tmp_path / "alone", tmp_path / "model", (3, 4, 3), max_steps=4)[2])[1]
    assert close(numbers(sink), numbers(expected), TOLERANCE)


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("gpt2", "t5"))])
def test_language_models_too(tmp_path: Path, kind: str) -> None:
    """GPT-2 has dropout, and layers that are stored as [in, out]."""
    task = "seq2seq-lm" if kind == "t5" else "causal-lm"
    changes = {"dropout_rate": 0.0} if kind == "t5" else {}
    base, method = tiny_lm.save_model(tmp_path / "base", kind, **changes), LoraSpec(r=4)

    def jobs(name: str) -> list[TrainJob]:
        found = []
        for place, rate in enumerate(RATES):
            training = tiny_lm.FAST.model_copy(update={"learning_rate": rate, "max_grad_norm": 0.5, "seed": place})
            job = tiny_lm.job(
                tmp_path / name / str(place), base, task, tiny_lm.pairs(), method=method, training=training
            )
            found.append(job.model_copy(update={"trial": True}))
        return found

    for (_result, sink), job in zip(together(jobs("group")), jobs("alone"), strict=True):
        assert close(numbers(sink), numbers(alone(job)[1]), 1e-4)


@pytest.mark.slow
def test_a_decoder_classifies_at_the_end_of_each_members_rows(tmp_path: Path) -> None:
    """It looks for the pad token, which is not 0 here, and the members' batches have different lengths."""
    base = tiny_lm.save_model(tmp_path / "base", "llama", pad_token_id=4)
    tokenizer = tiny.tokenizer()
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(4)
    tokenizer.save_pretrained(base)

    def jobs(name: str) -> list[TrainJob]:
        found = classifiers(tmp_path / name, base, (3, 4, 5), max_steps=4)
        method = LoraSpec(r=4)
        return [job.model_copy(update={"spec": job.spec.model_copy(update={"method": method})}) for job in found]

    for (_result, sink), job in zip(together(jobs("group")), jobs("alone"), strict=True):
        assert close(numbers(sink), numbers(alone(job)[1]), 1e-4)


@pytest.mark.slow
def test_bfloat16_differs_by_its_rounding_only(base: Path, tmp_path: Path) -> None:
    group = together(classifiers(tmp_path / "group", base, bf16=True, max_steps=6))
    for (_result, sink), job in zip(group, classifiers(tmp_path / "alone", base, bf16=True, max_steps=6), strict=True):
        assert close(numbers(sink), numbers(alone(job)[1]), 0.03)


@pytest.mark.slow
def test_accumulation_and_an_uneven_last_batch(base: Path, tmp_path: Path) -> None:
    """60 rows in batches of 8, three batches a step; with two seeds the short batch comes at different times."""
    changes = {"gradient_accumulation_steps": 3, "seeds": (1, 2, 1)}
    group = together(classifiers(tmp_path / "group", base, **changes))  # type: ignore[arg-type]
    for (_result, sink), job in zip(group, classifiers(tmp_path / "alone", base, **changes), strict=True):  # type: ignore[arg-type]
        assert close(numbers(sink), numbers(alone(job)[1]), TOLERANCE)


@pytest.mark.slow
def test_schedules_and_clipping_are_each_members_own(base: Path, tmp_path: Path) -> None:
    def jobs(name: str) -> list[TrainJob]:
        own = [
            {"lr_scheduler_type": "cosine", "warmup_steps": 3.0},
            {"max_grad_norm": 0.0, "weight_decay": 0.5},
            {"early_stopping_patience": 1, "learning_rate": 0.05, "num_train_epochs": 6},
        ]
        plain = classifiers(tmp_path / name, base)
        return [_with(job, **changes) for job, changes in zip(plain, own, strict=True)]

    group = together(jobs("group"))
    for (result, sink), job in zip(group, jobs("alone"), strict=True):
        expected, own = alone(job)
        assert close(numbers(sink), numbers(own), 1e-3), "rounding grows with a learning rate of 0.05"
        assert [step.learning_rate for step in sink.seen] == [step.learning_rate for step in own.seen]
        assert result.steps == expected.steps
    assert len({result.steps for result, _sink in group}) > 1, "one went on when the others had ended"


def _with(job: TrainJob, **changes: object) -> TrainJob:
    training = job.spec.training.model_copy(update=changes)
    return job.model_copy(update={"spec": job.spec.model_copy(update={"training": training})})


@pytest.mark.slow
def test_one_that_diverges_disturbs_no_other(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def optimizer(method, named, rate, decay, seed):  # type: ignore[no-untyped-def]
        """Of the second training, whose weights become infinite in its third step."""
        made = optimizer_of(method, named, rate, decay, seed)
        if rate == RATES[1]:
            steps = count(1)

            def explode(*_: object) -> None:
                if next(steps) == 3:
                    for parameter in named.values():
                        parameter.data.fill_(math.inf)

            made.register_step_post_hook(explode)
        return made

    monkeypatch.setattr(attempt, "optimizer_of", optimizer)
    (low, low_sink), (failed, sink), (high, high_sink) = together(classifiers(tmp_path / "group", base))
    assert isinstance(failed, RunFailed) and failed.code is FailureCode.DIVERGED
    assert len(sink.seen) == 3
    solo = [alone(job) for job in classifiers(tmp_path / "alone", base)[::2]]
    assert close(numbers(low_sink), numbers(solo[0][1]), TOLERANCE)
    assert close(numbers(high_sink), numbers(solo[1][1]), TOLERANCE)
    assert low.audit.passed and high.audit.passed


@pytest.mark.slow
def test_a_stopped_training_leaves_a_checkpoint_from_which_it_resumes_alone(base: Path, tmp_path: Path) -> None:
    sinks = [tiny.Recorder(), tiny.Recorder(stop_at=6), tiny.Recorder()]
    first, (stopped, sink), last = together(classifiers(tmp_path / "group", base), sinks)
    assert isinstance(stopped, Stopped)
    [(step, folder)] = sink.checkpoints
    assert step == 6
    resumed = classifiers(tmp_path / "resumed", base)[1].model_copy(update={"resume": str(folder)})
    solo = [alone(job) for job in classifiers(tmp_path / "alone", base)]
    result, own = alone(resumed)
    assert close(numbers(own), numbers(solo[1][1]), TOLERANCE)
    assert result.trained_together == 3, "what it spent in the group is in its clocks"
    for (_result, others), (expected, own) in zip((first, last), (solo[0], solo[2]), strict=True):
        assert close(numbers(others), numbers(own), TOLERANCE)
        assert expected.trained_together == 1


@pytest.mark.slow
def test_members_may_resume_at_different_steps(base: Path, tmp_path: Path) -> None:
    stopped = tiny.Recorder(stop_at=5)
    with pytest.raises(Stopped):
        Attempt(classifiers(tmp_path / "first", base)[0], stopped).run()
    jobs = classifiers(tmp_path / "group", base)
    jobs[0] = jobs[0].model_copy(update={"resume": str(stopped.checkpoints[0][1])})
    for (_result, sink), job in zip(together(jobs), classifiers(tmp_path / "alone", base), strict=True):
        assert close(numbers(sink), numbers(alone(job)[1]), TOLERANCE)


@pytest.mark.slow
def test_the_clocks_of_the_members_sum_to_the_time_of_the_group(base: Path, tmp_path: Path) -> None:
    jobs = classifiers(tmp_path, base)
    began = time.time()
    jobs = [job.model_copy(update={"claimed_at": began}) for job in jobs]
    results = [result for result, _sink in together(jobs)]
    seconds = time.time() - began
    # A busy machine may interrupt the process while no clock runs.
    assert 0.5 * seconds < sum(result.clocks.wall for result in results) < 1.01 * seconds
    for result in results:
        assert result.clocks.accounted == pytest.approx(result.clocks.wall, rel=0.01)
        assert result.energy_joules is None and not result.memory.ledgers


CAUSES = {
    "memory": torch.OutOfMemoryError(),
    "memory of a library": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "mixed rows": joint.NotJoined("the rows are mixed"),
    "anything else": ValueError("one of them is wrong"),
}


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize(
    "cause", ["memory", *(pytest.param(one, marks=pytest.mark.slow) for one in CAUSES if one != "memory")]
)
def test_passes_that_cannot_be_joined_are_computed_one_by_one(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """In the middle of a step with accumulation: what the failed pass has added to gradients is taken back."""
    calls = [0]
    plain = joint.Joint.losses

    def failing(self, *arguments):  # type: ignore[no-untyped-def]
        calls[0] += 1
        sums = plain(self, *arguments)
        if calls[0] == 5:
            torch.stack(sums).sum().backward(retain_graph=True)
            raise CAUSES[cause]
        return sums

    monkeypatch.setattr(joint.Joint, "losses", failing)
    group = together(classifiers(tmp_path / "group", base, gradient_accumulation_steps=3))
    assert calls[0] == 5, "from then on none is tried"
    for (_result, sink), job in zip(
        group, classifiers(tmp_path / "alone", base, gradient_accumulation_steps=3), strict=True
    ):
        assert any("one after the other" in line for line in sink.logs)
        assert close(numbers(sink), numbers(alone(job)[1]), TOLERANCE)


@pytest.mark.slow
def test_packed_batches_are_not_joined(tmp_path: Path) -> None:
    base = tiny_lm.save_model(tmp_path / "base", "llama")
    plain = tiny_lm.pairs()
    rows = [row._replace(prompt=f"{'and ' * 12}{row.prompt}") if i % 4 == 0 else row for i, row in enumerate(plain)]

    def jobs(name: str) -> list[TrainJob]:
        return [
            tiny_lm.job(
                tmp_path / name / str(place),
                base,
                "causal-lm",
                rows,
                method=LoraSpec(r=4),
                training=tiny_lm.FAST.model_copy(update={"learning_rate": rate, "packing": True, "max_steps": 4}),
            ).model_copy(update={"trial": True})
            for place, rate in enumerate(RATES[:2])
        ]

    group = together(jobs("group"))
    for (_result, sink), job in zip(group, jobs("alone"), strict=True):
        assert any("packed batches" in line for line in sink.logs)
        assert close(numbers(sink), numbers(alone(job)[1]), TOLERANCE)


@pytest.mark.slow
def test_the_frozen_weights_exist_once(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    plain = joint.Joint.__init__

    def watching(self, members):  # type: ignore[no-untyped-def]
        seen.extend(model for _member, model in members)
        plain(self, members)
        seen.append(self.model)

    monkeypatch.setattr(joint.Joint, "__init__", watching)
    together(classifiers(tmp_path, base, max_steps=1))
    storages = [{p.data_ptr() for p in model.parameters() if not p.requires_grad} for model in seen]
    heads = 2 * 4  # the head's weight and bias, kept beside each member's trained copy
    assert len(storages) == 4
    assert len(set.union(*storages)) <= len(storages[0]) + heads
    assert math.prod(len(s) for s in storages) > 0
