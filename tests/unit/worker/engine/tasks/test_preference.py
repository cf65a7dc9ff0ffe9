"""Preference tuning: pairs, losses, metrics, the model before training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax, logsigmoid
from transformers import AutoModelForCausalLM, BertConfig, GPT2Config, T5Config

from app.domain.data.dataset import PreferenceChatRow, PreferenceRow, Row
from app.domain.failures import RunFailed
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import preferences as tiny_preferences
from tests.support.tiny import texts as tiny
from worker.engine.data.batches.batches import IGNORED, Objective
from worker.engine.data.batches.padding_free import RowsApart, without_padding
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.evaluation.reference import Reference
from worker.engine.loop.clocks import Stopwatch
from worker.engine.loop.compiled import CompiledBlocks
from worker.engine.loop.progress import Instruments
from worker.engine.memory.measured import MemoryMeter
from worker.engine.models.dropout import disable_dropout, use_fast_dropout
from worker.engine.models.load import check_task
from worker.engine.ranks.team import Team
from worker.engine.tasks import preference
from worker.engine.tasks.preference import CHOSEN, REJECTED, Preferences, pair_losses

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


def test_the_loss_of_a_pair_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    model, rows = tiny_lm.model("gpt2"), [PAIR, PAIR._replace(item="q", prompt="stop", chosen=" six")]
    for loss in ("dpo", "orpo"):
        examples = encoded(list(rows), tmp_path / loss, preference_loss=loss)
        together = preference.losses(model, preference.collate(examples, [0, 1], 0))
        alone = [preference.losses(model, preference.collate(examples, [place], 0)) for place in range(2)]
        torch.testing.assert_close(together, torch.cat(alone))


def test_log_odds_stay_finite_near_probabilities_of_0_and_1() -> None:
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
        use_fast_dropout(model)
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
