"""Preference tuning: whole runs on tiny decoders, their cache, reports, ranks and exports."""

import json
import math
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from app.domain.failures import RunFailed
from app.domain.inference import ModelJob
from app.domain.methods import FullSpec, LoraSpec, MethodSpec, PrefixSpec
from app.domain.models.exports import ExportFormat, ExportJob
from app.domain.runs.job import PhaseReport
from app.domain.runs.result import RunResult
from app.domain.runs.status import Phase
from app.domain.runs.training import TrainingArguments
from tests.support.rows import inferred
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import preferences as tiny_preferences
from tests.support.tiny import texts as tiny
from tests.support.tiny import tokenizers as tiny_tokenizers
from tests.unit.worker.engine.estimation.test_estimate import alike, request_of, steady
from tests.unit.worker.engine.tasks.test_preference import Evaluations, Phases, encoded, evaluated
from worker.engine.estimation.estimate import estimate_run
from worker.engine.estimation.fake import Operations
from worker.engine.evaluation.reference import Reference
from worker.engine.exporting import check, merge
from worker.engine.exporting.progress import quiet
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.progress import Stopped
from worker.engine.models.weights import fingerprint
from worker.engine.tasks.preference import CHOSEN, REJECTED
from worker.training.execution import Reports


def trained(
    folder: Path, method: MethodSpec, training: TrainingArguments = tiny_preferences.FAST, **changes: Any
) -> tuple[RunResult, Any]:
    table = changes.pop("table", None)
    template = tiny_lm.CHAT_TEMPLATE if table else None
    base = tiny_lm.save_model(folder / "model", "llama", chat_template=template)
    job = tiny_preferences.job(folder / "run", base, method, training, table).model_copy(update=changes)
    recorder = tiny.Recorder()
    result = Attempt(job, recorder).run()
    assert result.audit.passed and recorder.logs == []
    return result, job


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        FullSpec(),
        LoraSpec(r=4, target_modules="all-linear"),
        pytest.param(PrefixSpec(num_virtual_tokens=4), marks=pytest.mark.slow),
    ],
    ids=lambda method: method.kind,
)
def test_it_learns_and_is_estimated(tmp_path: Path, method: MethodSpec) -> None:
    result, job = trained(tmp_path, method)
    before, after = (result.evaluation(subject, "test") for subject in ("base", "adapted"))
    assert before is not None and after is not None and before.n == 12
    assert before.loss == pytest.approx(math.log(2)) and after.loss < before.loss - 0.005
    assert after.metrics["preference_accuracy"] > before.metrics["preference_accuracy"] == 0.5
    assert after.metrics["reward_margin"] > 0 and after.metrics["kl"] > 0 and "kl" not in before.metrics
    saved = pq.read_table(tmp_path / "run" / "output" / "predictions.parquet")
    assert {"prompt", "chosen", "rejected", "prediction", f"base_{CHOSEN}", REJECTED} <= set(saved.column_names)
    estimate = estimate_run(request_of(job), Path(job.dataset_file))
    alike(estimate.ledger, steady(result))
    assert estimate.trainable == result.parameters.trainable


@pytest.mark.slow
def test_the_reference_of_dpo_is_estimated_as_the_base_models_pass_over_the_pairs(tmp_path: Path) -> None:
    """Counted in the pass itself, whose attention may be another kernel; a LoRA run evaluates the same base model, and
    ORPO has no reference."""
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    found = {}
    for name, method, loss in (
        ("full", FullSpec(), "dpo"),
        ("lora", LoraSpec(r=4), "dpo"),
        ("orpo", FullSpec(), "orpo"),
    ):
        training = tiny_preferences.FAST.model_copy(update={"preference_loss": loss, "per_device_eval_batch_size": 4})
        job = tiny_preferences.job(tmp_path / name, base, method, training)
        found[name] = estimate_run(request_of(job), Path(job.dataset_file)).reference_flops
    counted, model = 0, tiny_lm.model("llama")
    for split in ("train", "validation"):
        rows = [row for row in tiny_preferences.rows() if row.split == split]
        with Operations() as counter:
            evaluated(model, encoded(list(rows), tmp_path / split))
        counted += counter.work.flops
    assert found["full"] == found["lora"] == pytest.approx(counted, rel=0.08) and found["orpo"] == 0


@pytest.mark.slow
def test_orpo_learns_from_conversations_and_needs_no_reference(tmp_path: Path) -> None:
    training = tiny_preferences.FAST.model_copy(update={"preference_loss": "orpo", "max_length": 48})
    result, job = trained(tmp_path, FullSpec(), training, table=tiny_preferences.chats())
    before, after = (result.evaluation(subject, "test") for subject in ("base", "adapted"))
    assert before is not None and after is not None and after.loss < before.loss - 0.2
    assert after.metrics["preference_accuracy"] == after.metrics["mean_likelihood_accuracy"]
    alike(estimate_run(request_of(job), Path(job.dataset_file)).ledger, steady(result))


def test_a_run_trains_without_the_base_models_dropout(tmp_path: Path) -> None:
    """The loss of the first step, with a base model whose attention has dropout, is log 2."""
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    settings = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(settings | {"attention_dropout": 0.5}))
    recorder = tiny.Recorder()
    Attempt(tiny_preferences.job(tmp_path / "run", base, training=tiny_preferences.FAST.model_copy(
        update={"num_train_epochs": 1})), recorder).run()  # fmt: skip
    assert recorder.seen[0].loss == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.slow
def test_forgetting_is_the_loss_on_plain_text(tmp_path: Path) -> None:
    texts = tiny_lm.texts()
    file = tiny_lm.save_rows(tmp_path / "general.parquet", texts)
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    job = tiny_preferences.job(tmp_path / "run", base)
    spec = job.spec.model_copy(update={"general_text": "general"})
    result = Attempt(job.model_copy(update={"spec": spec, "general_file": str(file)}), tiny.Recorder()).run()
    modelled = tiny_lm.job(tmp_path / "lm", base, "causal-lm", texts, "text", general=texts)
    other = Attempt(modelled, tiny.Recorder()).run()
    assert result.forgetting is not None and other.forgetting is not None
    assert result.forgetting.base_loss == pytest.approx(other.forgetting.base_loss, rel=1e-6)
    assert result.forgetting.tokens == other.forgetting.tokens
    assert result.forgetting.adapted_loss != result.forgetting.base_loss


@pytest.mark.slow
def test_a_second_run_reads_the_reference_from_the_cache_and_trains_alike(tmp_path: Path) -> None:
    """So does one with another beta, on which the reference does not depend; and the cache holds no answers."""
    cache: dict[str, Any] = {"cache": str(tmp_path / "cache"), "cache_bytes": 2**30}
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    cache |= {"model_fingerprint": fingerprint(base)}
    losses = []
    for name, changes in (("a", cache), ("b", cache), ("c", {}), ("d", cache)):
        training = tiny_preferences.FAST.model_copy(update={"beta": 0.2} if name == "d" else {})
        job = tiny_preferences.job(tmp_path / name, base, training=training).model_copy(update=changes)
        recorder = tiny.Recorder()
        result = Attempt(job, recorder).run()
        losses.append([evaluation.loss for evaluation in result.evaluations])
        read = "An earlier run evaluated the base model: its predictions are read from the cache."
        assert recorder.logs == ([read] * 3 if name in ("b", "d") else [])
    assert losses[0] == losses[1] == losses[2]
    for file in (tmp_path / "cache" / "base").glob("*.json"):
        assert set(json.loads(file.read_text())["columns"]) == {CHOSEN, REJECTED}


@pytest.mark.parametrize(
    ("method", "form"),
    [
        (FullSpec(), ExportFormat.MERGED_FLOAT32),
        pytest.param(LoraSpec(r=4, target_modules="all-linear"), ExportFormat.ADAPTER, marks=pytest.mark.slow),
    ],
    ids=["full", "lora"],
)
def test_an_export_has_the_rewards_of_its_run(method: MethodSpec, form: ExportFormat, tmp_path: Path) -> None:
    """They are relative to the base model, whose log-probabilities are in the run's predictions file."""
    training = tiny_preferences.FAST.model_copy(update={"num_train_epochs": 1})
    run = tiny_preferences.job(tmp_path / "job", tiny_lm.save_model(tmp_path / "base", "llama"), method, training)
    Attempt(run, tiny.Recorder()).run()
    output = Path(run.output)
    saved = output / ("model" if form.merged else "adapter")
    table = pq.read_table(output / "predictions.parquet").to_pydict()
    job = ExportJob(format=form, job=run.model_copy(update={"output": str(tmp_path / "export")}), weights=str(saved),
                    whole=form.merged, predictions=str(output / "predictions.parquet"))  # fmt: skip
    merge.write(job)
    found = check.check(job, quiet)
    assert found.scores == table["preference_accuracy"] != table["likelihood_accuracy"]
    assert found.same == len(found.scores)
    with pytest.raises(RunFailed, match="has no predictions file"):
        check.check(job.model_copy(update={"predictions": ""}), quiet)


@pytest.mark.slow
def test_it_reports_while_it_computes_the_reference(tmp_path: Path) -> None:
    """A worker ends a trainer that reports nothing for long."""
    reports: list[Any] = []
    sink = Reports(SimpleNamespace(send=reports.append), threading.Event(), working_seconds=0.0)  # type: ignore[arg-type]
    training = tiny_preferences.FAST.model_copy(update={"num_train_epochs": 1, "per_device_eval_batch_size": 1})
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    Attempt(tiny_preferences.job(tmp_path / "run", base, training=training), sink).run()
    phases = [place for place, report in enumerate(reports) if isinstance(report, PhaseReport)]
    longest = max(stop - start for start, stop in pairwise(phases) if reports[start].phase is Phase.BASELINE)
    assert longest > 40, "one for each of 40 training pairs"


@pytest.mark.parametrize("world", [2, 3])
def test_each_rank_computes_its_share_of_the_reference(tmp_path: Path, world: int) -> None:
    model = tiny_lm.model("llama")
    examples = encoded(list(tiny_preferences.rows(7, 0, 0)), tmp_path)
    whole, parts = evaluated(model, examples), []
    for rank in range(world):
        counted = Evaluations(model)
        team = SimpleNamespace(rank=rank, world=world, sum=lambda values: values)
        reference = Reference(counted, None, Phases(), team)  # type: ignore[arg-type]
        found = reference.compared({"train": examples}, model, None)["train"]
        assert counted.pairs == len(range(rank, 7, world))
        parts.append(found.reference)  # type: ignore[attr-defined]
    expected = np.array([whole.columns[CHOSEN], whole.columns[REJECTED]]).T
    np.testing.assert_allclose(sum(parts), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", [FullSpec(), LoraSpec(r=4)], ids=["full", "lora"])
def test_a_stopped_run_goes_on_to_the_last_digit(tmp_path: Path, method: MethodSpec) -> None:
    """Without a cache the reference is computed again, from the base model and not from the trained weights."""
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    whole = tiny_preferences.job(tmp_path / "whole", base, method)
    expected = Attempt(whole, tiny.Recorder()).run()
    recorder = tiny.Recorder(stop_at=12)
    with pytest.raises(Stopped):
        Attempt(tiny_preferences.job(tmp_path / "first", base, method), recorder).run()
    [(step, folder)] = recorder.checkpoints
    second = tiny_preferences.job(tmp_path / "second", base, method).model_copy(update={"resume": str(folder)})
    result = Attempt(second, tiny.Recorder()).run()
    assert result.resumed_from == step == 12 < result.steps == expected.steps
    files = [Path(job.output) / "metrics.jsonl" for job in (second, whole)]
    losses = [[json.loads(line)["loss"] for line in file.read_text().splitlines()] for file in files]
    assert losses[0] == losses[1] and losses[0][12] < math.log(2) - 0.01, "it had learned something by then"
    found, before = ([(e.subject, e.loss, e.metrics) for e in run.evaluations] for run in (result, expected))
    assert found == before
    tables = [pq.read_table(Path(job.output) / "predictions.parquet") for job in (second, whole)]
    assert tables[0].equals(tables[1]), "the log-probabilities before and after training"


@pytest.mark.slow
def test_a_trained_model_answers_prompts_and_conversations_and_a_gguf_file_has_its_rewards(tmp_path: Path) -> None:
    """The playground, REST and `vezna serve` answer by this engine."""
    base = tmp_path / "base"
    words = tiny_tokenizers.byte_level("gpt2")
    words.chat_template = tiny_lm.CHAT_TEMPLATE
    tiny_lm.save_model(base, "llama", vocab_size=len(words) + 2)
    words.save_pretrained(base)
    training = tiny_preferences.FAST.model_copy(update={"num_train_epochs": 1, "max_length": 64})
    run = tiny_preferences.job(tmp_path / "job", base, LoraSpec(r=4), training)
    Attempt(run, tiny.Recorder()).run()
    adapter, saved = Path(run.output) / "adapter", Path(run.output) / "predictions.parquet"
    model = ModelJob(key="run 1/1", job=run, weights=str(adapter), whole=False, base_bytes=1000, own_bytes=10)
    prompts: list[Any] = ["count from one :", [{"role": "user", "content": "count from one"}]]
    answers = inferred.predictions(inferred.asked(inferred.models(), [model], prompts))
    assert [answer["index"] for answer in answers] == [0, 1] and all(answer["tokens"] > 0 for answer in answers)
    (tmp_path / "export").mkdir()
    job = ExportJob(format=ExportFormat.GGUF_F16, job=run.model_copy(update={"output": str(tmp_path / "export")}),
                    weights=str(adapter), whole=False, predictions=str(saved))  # fmt: skip
    assert any(file.name == "model-F16.gguf" for file in merge.write(job))
    found = check.check(job, quiet)
    expected = pq.read_table(saved).to_pydict()["preference_accuracy"]
    assert len(found.scores) == len(expected) and np.mean(np.equal(found.scores, expected)) >= 0.9
