"""Preference tuning: pairs, losses, metrics, the model before training, whole runs on tiny decoders."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import log_softmax, logsigmoid
from transformers import BertConfig, GPT2Config, T5Config

from app.domain.data.dataset import PreferenceChatRow, PreferenceRow, Row
from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, LoraSpec, MethodSpec, PrefixSpec
from app.domain.models.exports import ExportFormat, ExportJob
from app.domain.runs.result import RunResult
from app.domain.runs.training import TrainingArguments
from tests import tiny, tiny_lm, tiny_preferences
from tests.unit.worker.engine.estimation.test_estimate import alike, request_of, steady
from worker.engine.attempt import Attempt
from worker.engine.data.batches import IGNORED, Objective
from worker.engine.estimation.estimate import estimate_run
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.evaluation.reference import Reference
from worker.engine.exporting import check, merge
from worker.engine.exporting.progress import quiet
from worker.engine.models.load import check_task
from worker.engine.models.weights import fingerprint
from worker.engine.tasks import preference
from worker.engine.tasks.preference import CHOSEN, REJECTED, Preferences

PAIR = PreferenceRow("p", "test", "count from one :", " two three", " four")


def encoded(rows: list[Row], tmp_path: Path, template: str | None = None, **training: Any) -> Preferences:
    arguments = tiny_preferences.FAST.model_copy(update=training)
    job = tiny_preferences.job(tmp_path / "run", tmp_path, training=arguments)
    words = tiny_lm.tokenizer()
    words.chat_template = template
    return preference.encode(rows, "test", words, tiny_lm.model("llama"), job, tiny.Recorder())


def words(ids: Any) -> str:
    return str(tiny_lm.tokenizer().decode(ids))


def evaluated(model: Any, examples: Preferences) -> Predictions:
    evaluator = Evaluator(torch.device("cpu"), 4, 0, False, lambda: None, lambda _line: None, preference.collate)
    return preference.evaluate(model, examples, evaluator, generate=False)


def test_a_batch_has_the_chosen_answers_above_the_rejected_ones(tmp_path: Path) -> None:
    other = PreferenceRow("q", "test", "stop :", " six", " one two three")
    examples = encoded([PAIR, other], tmp_path)
    batch = preference.collate(examples, [0, 1], 0)
    assert [words(row[row != 0]) for row in batch.inputs["input_ids"]] == [
        "<s> count from one : two three",
        "<s> stop : six",
        "<s> count from one : four",
        "<s> stop : one two three",
    ]
    assert [words(row[row != IGNORED]) for row in batch.labels] == [
        "two three </s>", "six </s>", "four </s>", "one two three </s>"
    ]  # fmt: skip
    assert examples.units([0, 1]) == 2 and examples.outputs([0, 1]) == 3 + 2 + 2 + 4
    assert examples.computed([0, 1]) == [(4, (7,))] and examples.weight([0, 1]) == (28, 28 - 7 - 4 - 6 - 6)


def test_a_conversation_is_rendered_by_the_chat_template_and_its_last_turn_alone_learnt(tmp_path: Path) -> None:
    before = [
        {"role": "user", "content": "count"},
        {"role": "assistant", "content": "from one"},
        {"role": "user", "content": "then"},
    ]
    row = PreferenceChatRow("p", "test", before, "two", "four five")  # type: ignore[arg-type]
    examples = encoded([row], tmp_path, tiny_lm.CHAT_TEMPLATE)
    assert words(examples.tokens[0]).endswith("<turn> user : then <end> <turn> assistant : two <end>")
    assert words(examples.targets[0][examples.targets[0] != IGNORED]) == "two <end> </s>"
    targets = examples.rejected_targets[0]
    assert words(targets[targets != IGNORED]) == "four five <end> </s>"


def test_both_answers_follow_the_same_part_of_a_truncated_prompt(tmp_path: Path) -> None:
    row = PAIR._replace(prompt="and and and count from one :", rejected=" four five six one two")
    examples = encoded([row], tmp_path, max_length=10)
    assert words(examples.tokens[0]) == "<s> from one : two three"
    assert words(examples.rejected[0]) == "<s> from one : four five six one two"
    assert examples.truncated == [13]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (PAIR._replace(rejected=" two three"), "has equal answers"),
        (PAIR._replace(chosen="  "), "has no chosen or no rejected answer"),
    ],
)
def test_a_row_without_two_answers_is_refused(tmp_path: Path, row: PreferenceRow, says: str) -> None:
    with pytest.raises(RunFailed, match=f"Row p of the test split {says}"):
        encoded([row], tmp_path)


@pytest.mark.parametrize("loss", ["dpo", "orpo"])
def test_the_losses_are_those_of_the_papers(tmp_path: Path, loss: str) -> None:
    """Computed from logits of whole, unpadded sequences in float64, as the equations are written."""
    model = tiny_lm.model("llama").double()
    examples = encoded([PAIR, PAIR._replace(item="q", chosen=" six", rejected=" one two six")], tmp_path,
                       preference_loss=loss, beta=0.3)  # fmt: skip
    reference = np.array([[-7.0, -4.0], [-5.5, -9.0]])
    if loss == "dpo":
        examples = examples.against(
            Predictions(0.0, {}, {}, {CHOSEN: reference[:, 0].tolist(), REJECTED: reference[:, 1].tolist()})
        )
    found = preference.losses(model, preference.collate(examples, [0, 1], 0))
    for place in range(2):
        sums, means = [], []
        for ids, targets in (
            (examples.tokens[place], examples.targets[place]),
            (examples.rejected[place], examples.rejected_targets[place]),
        ):
            logs = log_softmax(model(input_ids=torch.tensor(ids[None].astype("int64"))).logits[0], -1)
            own = [float(logs[t, target]) for t, target in enumerate(targets) if target != IGNORED]
            sums.append(sum(own))
            means.append(sum(own) / len(own))
        (better, worse), (p, q) = sums, map(math.exp, means)
        ratio = (better - reference[place, 0]) - (worse - reference[place, 1])
        odds = math.log(p / (1 - p)) - math.log(q / (1 - q))
        dpo = -math.log(1 / (1 + math.exp(-0.3 * ratio)))
        orpo = -means[0] - 0.3 * math.log(1 / (1 + math.exp(-odds)))
        assert float(found[place]) == pytest.approx(dpo if loss == "dpo" else orpo, rel=1e-5)


def test_the_loss_of_a_pair_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    model, rows = tiny_lm.model("gpt2"), [PAIR, PAIR._replace(item="q", prompt="stop", chosen=" six")]
    for loss in ("dpo", "orpo"):
        examples = encoded(list(rows), tmp_path / loss, preference_loss=loss)
        together = preference.losses(model, preference.collate(examples, [0, 1], 0))
        alone = [preference.losses(model, preference.collate(examples, [place], 0)) for place in range(2)]
        torch.testing.assert_close(together, torch.cat(alone))


def test_log_odds_stay_finite_near_probabilities_of_0_and_1() -> None:
    sums = torch.tensor([-1e-9, -2.0, -80.0, -0.1], requires_grad=True)
    found = preference.pair_losses(Objective("orpo", 0.1), sums, torch.ones(4))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert sums.grad is not None and bool(sums.grad.isfinite().all()) and bool(found.isfinite().all())


def test_without_a_reference_the_model_is_its_own(tmp_path: Path) -> None:
    """Before training DPO's loss is log 2 and its margin 0, and pairs are ranked by log-probabilities."""
    model = tiny_lm.model("llama")
    examples = encoded(list(tiny_preferences.rows(0, 0, 12)), tmp_path)
    before = evaluated(model, examples)
    assert before.loss == pytest.approx(math.log(2)) and before.metrics["reward_margin"] == 0
    assert before.per_item["preference_accuracy"].tolist() == before.per_item["likelihood_accuracy"].tolist()
    right = before.per_item["preference_accuracy"]
    answers = [row.chosen if own else row.rejected for row, own in zip(examples.rows, right, strict=True)]  # type: ignore[union-attr]
    assert before.columns["prediction"] == answers
    margins = np.array(before.columns[CHOSEN]) - np.array(before.columns[REJECTED])
    assert ((margins > 0) == right.astype(bool)).all()
    after = evaluated(model, examples.against(before))
    assert after.metrics["preference_accuracy"] == 0  # a tie is not right, as in TRL
    assert after.loss == pytest.approx(math.log(2))


def test_rewards_are_relative_to_the_reference(tmp_path: Path) -> None:
    model, examples = tiny_lm.model("llama"), encoded([PAIR], tmp_path)
    own = evaluated(model, examples)
    chosen, rejected = own.columns[CHOSEN][0], own.columns[REJECTED][0]
    for shift, right in ((1.0, 1.0), (-1.0, 0.0)):
        moved = Predictions(0.0, {}, {}, {CHOSEN: [chosen - shift], REJECTED: [rejected]})
        found = evaluated(model, examples.against(moved))
        assert found.metrics["preference_accuracy"] == right
        assert found.metrics["reward_margin"] == pytest.approx(0.1 * shift)
        assert found.loss == pytest.approx(-float(logsigmoid(torch.tensor(0.1 * shift))), rel=1e-5)


class Evaluations:
    """Evaluates without a cache."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def evaluate(self, examples: Preferences, *, generate: bool) -> Predictions:
        return evaluated(self.model, examples)


class Phases:
    def enter(self, phase: Any) -> None:
        pass


@pytest.mark.parametrize("kept", [64, 4])
def test_the_divergence_is_that_over_the_whole_vocabulary_or_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """With all tokens kept it is exact; with the others as one it is a lower bound, and 0 for the same model."""
    monkeypatch.setattr("worker.engine.evaluation.reference.KEPT", kept)
    base, trained = tiny_lm.model("llama"), tiny_lm.model("llama")
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    examples = encoded(list(tiny_preferences.rows(0, 0, 6)), tmp_path)
    evaluator = Evaluator(torch.device("cpu"), 4, 0, False, lambda: None, lambda _line: None, preference.collate)
    reference = Reference(Evaluations(base), evaluator, Phases())  # type: ignore[arg-type]
    reference.compared({"test": examples}, base, None)
    nothing = Predictions(0.0, {}, {})
    assert reference.measured(base, nothing).metrics["kl"] == pytest.approx(0, abs=1e-6)
    found = reference.measured(trained, nothing).metrics["kl"]
    batch = preference.collate(examples, range(6), 0)
    with torch.no_grad():
        q, p = (log_softmax(model(**batch.inputs).logits[batch.places], 1) for model in (trained, base))
    exact = float((q.exp() * (q - p)).sum(1).mean())
    assert found == pytest.approx(exact, rel=1e-4) if kept == 64 else 0.2 * exact < found < exact


def test_encoders_and_encoder_decoders_are_refused() -> None:
    check_task(GPT2Config(), "preference")
    with pytest.raises(RunFailed, match="'bert' is an encoder, which sees the words"):
        check_task(BertConfig(), "preference")
    with pytest.raises(RunFailed, match="no preference model of type 't5'"):
        check_task(T5Config(), "preference")


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
    assert after.metrics["preference_accuracy"] > before.metrics["preference_accuracy"]
    assert after.metrics["reward_margin"] > 0 and after.metrics["kl"] > 0 and "kl" not in before.metrics
    saved = pq.read_table(tmp_path / "run" / "output" / "predictions.parquet")
    assert {"prompt", "chosen", "rejected", "prediction", f"base_{CHOSEN}", REJECTED} <= set(saved.column_names)
    estimate = estimate_run(request_of(job), Path(job.dataset_file))
    alike(estimate.ledger, steady(result))
    assert estimate.trainable == result.parameters.trainable


def test_orpo_learns_from_conversations_and_needs_no_reference(tmp_path: Path) -> None:
    training = tiny_preferences.FAST.model_copy(update={"preference_loss": "orpo", "max_length": 48})
    result, job = trained(tmp_path, FullSpec(), training, table=tiny_preferences.chats())
    before, after = (result.evaluation(subject, "test") for subject in ("base", "adapted"))
    assert before is not None and after is not None and after.loss < before.loss - 0.2
    assert after.metrics["preference_accuracy"] == after.metrics["mean_likelihood_accuracy"]
    alike(estimate_run(request_of(job), Path(job.dataset_file)).ledger, steady(result))


def test_accumulated_and_padding_free_batches_have_the_same_losses(tmp_path: Path) -> None:
    """Four pairs at a time, four times, are sixteen pairs."""
    changes = {"num_train_epochs": 1, "per_device_train_batch_size": 8}
    plain, _job = trained(tmp_path / "a", FullSpec(), tiny_preferences.FAST.model_copy(update=changes))
    free, _job = trained(
        tmp_path / "b", FullSpec(), tiny_preferences.FAST.model_copy(update=changes | {"padding_free": True})
    )
    assert [e.loss for e in free.evaluations if e.subject == "base"] == [
        e.loss for e in plain.evaluations if e.subject == "base"
    ]
    examples = encoded(list(tiny_preferences.rows(8, 0, 0)), tmp_path)
    model = tiny_lm.model("llama")
    (preference.loss(model, preference.collate(examples, range(8), 0)) / 8).backward()  # type: ignore[no-untyped-call]
    whole = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    for half in (range(5), range(5, 8)):
        (preference.loss(model, preference.collate(examples, half, 0)) / 8).backward()  # type: ignore[no-untyped-call]
    for one, other in zip(whole, (p.grad for p in model.parameters()), strict=True):
        torch.testing.assert_close(one, other)


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
    cache: dict[str, Any] = {"cache": str(tmp_path / "cache"), "cache_bytes": 2**30}
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    cache |= {"model_fingerprint": fingerprint(base)}
    losses = []
    for name, changes in (("a", cache), ("b", cache), ("c", {})):
        job = tiny_preferences.job(tmp_path / name, base).model_copy(update=changes)
        recorder = tiny.Recorder()
        result = Attempt(job, recorder).run()
        losses.append([evaluation.loss for evaluation in result.evaluations])
        read = "An earlier run evaluated the base model: its predictions are read from the cache."
        assert recorder.logs == ([read] * 3 if name == "b" else [])
    assert losses[0] == losses[1] == losses[2]


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
