"""Preference tuning: pairs, losses, metrics, and whole runs on tiny decoders."""

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
import torch
from torch.nn.functional import log_softmax, logsigmoid
from transformers import AutoModelForCausalLM, BertConfig, GPT2Config, T5Config

from app.domain.data.dataset import PreferenceChatRow, PreferenceRow, Row
from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, LoraSpec, MethodSpec, PrefixSpec
from app.domain.runs.job import PhaseReport
from app.domain.runs.result import RunResult
from app.domain.runs.status import Phase
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import preferences as tiny_preferences
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine.estimation.test_estimate import alike, request_of, steady
from worker.engine.data.batches.batches import IGNORED, Objective
from worker.engine.data.batches.padding_free import RowsApart, without_padding
from worker.engine.estimation.estimate import estimate_run
from worker.engine.estimation.fake import Operations
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.evaluation.reference import Reference
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.clocks import Stopwatch
from worker.engine.loop.compiled import CompiledBlocks
from worker.engine.loop.progress import Instruments, Stopped
from worker.engine.memory.measured import MemoryMeter
from worker.engine.models.attention import use_cpu_kernels
from worker.engine.models.dropout import disable_dropout
from worker.engine.models.load import check_task
from worker.engine.models.weights import fingerprint
from worker.engine.ranks.team import Team
from worker.engine.tasks import preference
from worker.engine.tasks.preference import CHOSEN, REJECTED, Preferences, pair_losses
from worker.training.execution import Reports

CPU = torch.device("cpu")
PAIR = PreferenceRow("p", "test", "count from one :", " two three", " four")


def encoded(
    rows: list[Row],
    tmp_path: Path,
    template: str | None = None,
    sink: tiny.Recorder | None = None,
    bos: bool = True,
    **training: Any,
) -> Preferences:
    arguments = tiny_preferences.FAST.model_copy(update=training)
    job = tiny_preferences.job(tmp_path / "run", tmp_path, training=arguments)
    words = tiny_lm.tokenizer(bos=bos)
    words.chat_template = template
    return preference.encode(rows, "test", words, tiny_lm.model("llama"), job, sink or tiny.Recorder())


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


def test_a_template_may_change_earlier_turns(tmp_path: Path) -> None:
    """As Qwen3's, which writes the thoughts of the last turn only."""
    template = tiny_lm.CHAT_TEMPLATE.replace(
        "{{ message.content }}",
        "{% if loop.last and message.role == 'assistant' %}and {% endif %}{{ message.content }}",
    )
    assert template != tiny_lm.CHAT_TEMPLATE
    before = [{"role": "user", "content": "count"}, {"role": "assistant", "content": "one"},
              {"role": "user", "content": "then"}]  # fmt: skip
    row = PreferenceChatRow("p", "test", before, "two", "four")  # type: ignore[arg-type]
    examples = encoded([row], tmp_path, template)
    assert words(examples.targets[0][examples.targets[0] != IGNORED]) == "and two <end> </s>"
    assert "assistant : one <end>" in words(examples.tokens[0])


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
        examples = examples.against(reference.T)
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


def test_the_loss_of_a_pair_is_finite_and_independent_of_its_batch(tmp_path: Path) -> None:
    model, rows = tiny_lm.model("gpt2"), [PAIR, PAIR._replace(item="q", prompt="stop", chosen=" six")]
    for loss in ("dpo", "orpo"):
        examples = encoded(list(rows), tmp_path / loss, preference_loss=loss)
        together = preference.losses(model, preference.collate(examples, [0, 1], 0))
        alone = [preference.losses(model, preference.collate(examples, [place], 0)) for place in range(2)]
        torch.testing.assert_close(together, torch.cat(alone))
    sums = torch.tensor([-1e-9, -2.0, -80.0, -0.1], requires_grad=True)
    found = pair_losses(Objective("orpo", 0.1), sums, torch.ones(4))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert sums.grad is not None and bool(sums.grad.isfinite().all()) and bool(found.isfinite().all())


def test_without_a_reference_the_model_is_its_own(tmp_path: Path) -> None:
    """Before training DPO's loss is log 2, and all its rewards are ties, which likelihoods are not."""
    model = tiny_lm.model("llama")
    examples = encoded(list(tiny_preferences.rows(0, 0, 12)), tmp_path)
    before = evaluated(model, examples)
    sums = np.array([before.columns[CHOSEN], before.columns[REJECTED]])
    for found in (before, evaluated(model, examples.against(sums))):
        assert found.loss == pytest.approx(math.log(2)) and found.metrics["reward_margin"] == 0
        assert found.metrics["preference_accuracy"] == 0.5 and set(found.columns["prediction"]) == {""}
        assert ((sums[0] > sums[1]) == (found.per_item["likelihood_accuracy"] == 1)).all()
        assert 0 < found.metrics["likelihood_accuracy"] < 1


def test_answers_of_the_same_tokens_are_ties_and_counted(tmp_path: Path) -> None:
    """By truncation, or since the tokenizer ignores a difference: with a reference of their own they are ties still."""
    sink = tiny.Recorder()
    long = " one two three four five six"
    rows = [PAIR, PAIR._replace(chosen=f"{long} one", rejected=f"{long} two"), PAIR._replace(rejected=" two  three")]
    examples = encoded(list(rows), tmp_path, sink=sink, max_length=7)
    assert examples.equal.tolist() == [False, True, True]
    assert ["answers of 2 of 3 pairs of the test split are the same tokens, of 1 because" in line
            for line in sink.logs] == [False, True]  # fmt: skip
    found = evaluated(tiny_lm.model("llama"), examples.against(np.array([[-1.0, -2.0, -3.0], [-9.0, -2.1, -2.9]])))
    assert found.per_item["preference_accuracy"].tolist()[1:] == [0.5, 0.5]
    assert found.per_item["likelihood_accuracy"].tolist()[1:] == [0.5, 0.5]


def test_rewards_are_relative_to_the_reference(tmp_path: Path) -> None:
    model, examples = tiny_lm.model("llama"), encoded([PAIR], tmp_path)
    own = evaluated(model, examples)
    chosen, rejected = own.columns[CHOSEN][0], own.columns[REJECTED][0]
    for shift, right in ((1.0, 1.0), (-1.0, 0.0)):
        found = evaluated(model, examples.against(np.array([[chosen - shift], [rejected]])))
        assert found.columns["prediction"] == [PAIR.chosen if right else PAIR.rejected]
        assert found.metrics["preference_accuracy"] == right
        assert found.metrics["reward_margin"] == pytest.approx(0.1 * shift)
        assert found.loss == pytest.approx(-float(logsigmoid(torch.tensor(0.1 * shift))), rel=1e-5)


class Evaluations:
    """Evaluates without a cache."""

    def __init__(self, model: Any) -> None:
        self.model, self.pairs = model, 0

    def log_probabilities(self, examples: Preferences) -> Any:
        self.pairs = len(examples)
        found = evaluated(self.model, examples)
        return np.array([found.columns[CHOSEN], found.columns[REJECTED]])


class Phases:
    def enter(self, phase: Any) -> None:
        pass


@pytest.mark.parametrize("kept", [64, 4])
def test_the_divergence_is_exact_or_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """With all tokens kept it is exact; with the others as one it is a lower bound, and 0 for the same model."""
    monkeypatch.setattr("worker.engine.evaluation.reference.KEPT", kept)
    base, trained = tiny_lm.model("llama"), tiny_lm.model("llama")
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    examples = encoded(list(tiny_preferences.rows(0, 0, 6)), tmp_path)
    evaluator = Evaluator(torch.device("cpu"), 4, 0, False, lambda: None, lambda _line: None, preference.collate)
    reference = Reference(Evaluations(base), evaluator, Phases(), Team())  # type: ignore[arg-type]
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


def test_padding_free_batches_change_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.data.batches.padding_free.CPU_MULTIPLE", 1)
    model = tiny_lm.model("llama")
    examples = encoded(list(tiny_preferences.rows(8, 0, 0)), tmp_path, preference_loss="orpo")
    padded = preference.collate(examples, range(8), 0)
    packed = without_padding(padded)
    assert packed.tokens < packed.inputs["input_ids"].numel()
    tokens: list[int] = []
    block = model.model.layers[0].mlp
    block.register_forward_pre_hook(lambda _part, given: tokens.append(given[0].shape[:2].numel()))
    plain = preference.losses(model, padded)
    gradients = torch.autograd.grad(plain.sum(), [*model.parameters()])
    with RowsApart(model).of(packed):
        found = preference.losses(model, packed)
        torch.testing.assert_close(found, plain)
        for one, other in zip(torch.autograd.grad(found.sum(), [*model.parameters()]), gradients, strict=True):
            torch.testing.assert_close(one, other)
    assert tokens == [padded.inputs["input_ids"].numel(), padded.tokens]


@pytest.mark.slow
def test_compiled_blocks_have_the_same_losses_and_gradients(tmp_path: Path) -> None:
    """As torch traces them; no code is generated."""
    model = tiny_lm.model("llama").train()
    batch = preference.collate(encoded(list(tiny_preferences.rows(6, 0, 0)), tmp_path), range(6), 0)
    instruments = Instruments(tiny.Recorder(), Stopwatch(0.0, CPU), MemoryMeter(CPU))
    compiled = CompiledBlocks(model, instruments, "eager")
    plain = preference.losses(model, batch)
    gradients = torch.autograd.grad(plain.sum(), [*model.parameters()])
    with compiled.computing():
        found = preference.losses(model, batch)
        torch.testing.assert_close(found, plain)
        for one, other in zip(torch.autograd.grad(found.sum(), [*model.parameters()]), gradients, strict=True):
            torch.testing.assert_close(one, other)
    assert compiled.compiled_in_step


def test_the_loss_of_an_untrained_model_with_dropout_is_log_2(tmp_path: Path) -> None:
    """In training mode, with dropout in modules, in attention, and in functions that read a number."""
    config = GPT2Config(vocab_size=64, n_positions=64, n_embd=32, n_layer=2, n_head=2)
    model = AutoModelForCausalLM.from_config(config)
    model.transformer.h[0].dropout = 0.5  # as OPT's layers have it
    examples = encoded(list(tiny_preferences.rows(0, 0, 6)), tmp_path)
    found = evaluated(model, examples)
    batch = preference.collate(
        examples.against(np.array([found.columns[CHOSEN], found.columns[REJECTED]])), range(6), 0
    )
    for disabled in (False, True):
        if disabled:
            disable_dropout(model)
            assert model.transformer.h[0].dropout == 0
        use_cpu_kernels(model)
        model.train()
        assert bool((preference.losses(model, batch) - math.log(2)).abs().max() < 1e-6) == disabled


def test_accumulated_batches_have_the_same_gradients(tmp_path: Path) -> None:
    """Five pairs and three are eight pairs."""
    examples = encoded(list(tiny_preferences.rows(8, 0, 0)), tmp_path)
    model = tiny_lm.model("llama")
    (preference.loss(model, preference.collate(examples, range(8), 0)) / 8).backward()  # type: ignore[no-untyped-call]
    whole = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    for half in (range(5), range(5, 8)):
        (preference.loss(model, preference.collate(examples, half, 0)) / 8).backward()  # type: ignore[no-untyped-call]
    for one, other in zip(whole, (p.grad for p in model.parameters()), strict=True):
        torch.testing.assert_close(one, other)


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
