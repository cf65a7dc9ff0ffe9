"""The loop: what it must do for every method, on a model small enough to check; and its learning rates."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import get_scheduler
from transformers.models.bert.modeling_bert import BertAttention, BertPreTrainedModel

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec, MethodSpec
from app.domain.runs.result import DataSeen, Evaluation, RunResult
from app.domain.runs.status import Phase
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.progress import Stopped
from worker.engine.loop.step import clip, optimizer_of
from worker.engine.loop.train import Schedule, dropout_seed, factor, warmup
from worker.engine.saving.best_weights import BestCheckpoint
from worker.engine.tasks import sequence_classification

LORA = LoraSpec(r=4, target_modules=["query", "value"])


def arguments(**changes: object) -> TrainingArguments:
    return tiny.FAST.model_copy(update=changes)


def attempt(
    directory: Path, base: Path, sink: tiny.Recorder, method: MethodSpec, training: TrainingArguments = tiny.FAST
) -> RunResult:
    return Attempt(tiny.job(directory, base, method, training), sink).run()


Trained = Callable[[MethodSpec], tuple[RunResult, tiny.Recorder, Path]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Trained:
    """A method's run, what it told, and its folder; each is trained once."""
    done: dict[str, tuple[RunResult, tiny.Recorder, Path]] = {}

    def run(method: MethodSpec) -> tuple[RunResult, tiny.Recorder, Path]:
        if method.kind not in done:
            folder, recorder = tmp_path_factory.mktemp(method.kind), tiny.Recorder()
            done[method.kind] = attempt(folder, base, recorder, method), recorder, folder
        return done[method.kind]

    return run


@pytest.mark.parametrize("method", tiny.METHODS, ids=lambda m: m.kind)
def test_an_attempt_learns_and_tells_everything(trained: Trained, method: MethodSpec) -> None:
    result, recorder, folder = trained(method)
    assert recorder.total_steps == result.steps == 24
    assert [s.step for s in recorder.seen] == list(range(1, 25))
    assert recorder.seen[-1].epoch == 3
    assert recorder.seen[-1].tokens == result.tokens
    assert [(e.subject, e.split) for e in result.evaluations] == [
        ("base", "test"), *[("adapted", "validation")] * 3, ("adapted", "test")
    ]  # fmt: skip
    assert result.evaluations == [e for e, _, _ in recorder.evaluations]
    for evaluation, items, scores in recorder.evaluations:
        assert len(items) == len(scores) == (24 if evaluation.split == "test" else 0)
        if scores:
            assert sum(scores) / len(scores) == pytest.approx(evaluation.score)
    assert list(dict.fromkeys(recorder.phases)) == [phase for phase in Phase if phase is not Phase.DOWNLOAD]
    assert result.audit.passed
    lines = (folder / "output" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 25))


@pytest.mark.slow
def test_full_fine_tuning_solves_the_words(base: Path, tmp_path: Path, recorder: tiny.Recorder) -> None:
    job = tiny.job(tmp_path, base, FullSpec(), arguments(num_train_epochs=6), tiny.rows(train=240))
    result = Attempt(job, recorder).run()
    before, after = result.evaluation("base", "test"), result.evaluation("adapted", "test")
    assert before and after
    assert after.score and before.score is not None
    assert after.score > 0.9 > before.score


@pytest.mark.slow
def test_every_arm_of_a_seed_starts_from_the_same_model_and_sees_the_same_tokens(base: Path, tmp_path: Path) -> None:
    seen = []
    for method in tiny.METHODS:
        recorder = tiny.Recorder()
        result = attempt(tmp_path / method.kind, base, recorder, method, arguments(max_steps=9))
        seen.append((result.evaluations[0], [s.tokens for s in recorder.seen]))
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_to_the_last_digit(base: Path, tmp_path: Path) -> None:
    def numbers(name: str, seed: int) -> list[object]:
        recorder = tiny.Recorder()
        result = attempt(tmp_path / name, base, recorder, LORA, arguments(seed=seed))
        return [[(s.loss, s.grad_norm) for s in recorder.seen], result.evaluations]

    first = numbers("first", 7)
    assert numbers("again", 7) == first
    assert numbers("other", 8) != first


@pytest.mark.slow
@pytest.mark.parametrize("rows", [60, 57])
def test_accumulation_equals_the_larger_batch(base: Path, tmp_path: Path, rows: int) -> None:
    """Also where the last batch of an epoch is smaller. Dropout is off: it draws per batch."""
    still = tiny.save_model(tmp_path / "still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    losses = []
    for name, size, together in (("large", 60, 1), ("small", 8, 8)):
        recorder = tiny.Recorder()
        training = arguments(
            per_device_train_batch_size=size, gradient_accumulation_steps=together, max_steps=4, learning_rate=1e-3
        )
        job = tiny.job(tmp_path / name, still, FullSpec(), training, tiny.rows(train=rows))
        Attempt(job, recorder).run()
        losses.append([(s.loss, s.grad_norm) for s in recorder.seen])
    for large, small in zip(*losses, strict=True):
        assert small == pytest.approx(large, rel=1e-3)


def test_clipping_scales_down_to_the_norm_and_zero_leaves_gradients() -> None:
    def gradients(max_norm: float) -> tuple[float, list[float]]:
        parameter = torch.nn.Parameter(torch.zeros(2))
        parameter.grad = torch.tensor([3.0, 4.0])
        norm = clip(torch.optim.SGD([parameter]), [parameter], max_norm)
        return norm.item(), parameter.grad.tolist()

    assert gradients(1.0) == (5.0, pytest.approx([0.6, 0.8], rel=1e-5))
    assert gradients(10.0) == (5.0, [3.0, 4.0])
    assert gradients(0.0) == (5.0, [3.0, 4.0])


def test_weight_decay_is_for_matrices_only() -> None:
    matrix, bias = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = optimizer_of(FullSpec(), {"matrix": matrix, "bias": bias}, 0.1, 0.5)
    matrix.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert matrix[0, 0].item() == pytest.approx(0.95)
    assert bias[0].item() == 1


def evaluation(step: int, accuracy: float, loss: float) -> Evaluation:
    return Evaluation(
        subject="adapted",
        split="validation",
        step=step,
        epoch=step,
        n=10,
        loss=loss,
        metric="accuracy",
        metrics={"accuracy": accuracy, "macro_f1": 0.5},
    )


@pytest.mark.parametrize(("by", "step"), [("metric", 3), ("loss", 5)])
def test_the_best_checkpoint_by_metric_or_loss(tmp_path: Path, by: Literal["metric", "loss"], step: int) -> None:
    model = torch.nn.Linear(2, 1)
    best = BestCheckpoint(tmp_path, model, by)
    history = [(1, 0.5, 1.0), (2, 0.7, 0.9), (3, 0.7, 0.8), (4, 0.7, 0.8), (5, 0.6, 0.1)]
    for at, accuracy, loss in history:
        with torch.no_grad():
            model.weight.fill_(at)
        best.consider(evaluation(at, accuracy, loss), last=at == 5)
    assert best.step == step
    best.restore()
    assert model.weight.tolist() == [[float(step), float(step)]]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_keeps_its_best_epoch(base: Path, tmp_path: Path, recorder: tiny.Recorder) -> None:
    result = attempt(tmp_path, base, recorder, FullSpec(), arguments(num_train_epochs=6, learning_rate=2e-2))
    validations = [e for e in result.evaluations if e.split == "validation"]
    assert result.best_step == max(validations, key=lambda e: (e.score, -e.loss)).step
    assert result.evaluations[-1].step == result.best_step


@pytest.mark.slow
def test_without_validation_rows_the_last_weights_are_kept(base: Path, tmp_path: Path, recorder: tiny.Recorder) -> None:
    table = [row for row in tiny.rows() if row.split != "validation"]
    result = Attempt(tiny.job(tmp_path, base, LORA, table=table), recorder).run()
    assert result.best_step == result.steps


def test_a_base_model_with_nan_weights_is_named(base: Path, tmp_path: Path, recorder: tiny.Recorder) -> None:
    broken = Path(shutil.copytree(base, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    name = next(name for name, tensor in weights.items() if "query.weight" in name)
    weights[name][0, 0] = math.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunFailed, match=r"weights contain NaN.*query\.weight") as failed:
        attempt(tmp_path / "run", broken, recorder, LORA)
    assert failed.value.code is FailureCode.MODEL_UNAVAILABLE


def test_a_stop_is_heard_between_two_batches(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        attempt(tmp_path, base, tiny.Recorder(stop_at=5), LORA)


@pytest.mark.slow
@pytest.mark.parametrize("method", tiny.METHODS, ids=lambda m: m.kind)
def test_bfloat16_learns_too(base: Path, tmp_path: Path, method: MethodSpec) -> None:
    losses = []
    for name, bf16 in (("float32", False), ("bfloat16", True)):
        recorder = tiny.Recorder()
        result = attempt(tmp_path / name, base, recorder, method, arguments(bf16=bf16, num_train_epochs=6))
        assert result.environment.precision == ("bf16" if bf16 else "fp32")
        assert result.audit.passed
        losses.append([s.loss for s in recorder.seen])
    whole, rounded = losses
    assert rounded[:5] == pytest.approx(whole[:5], rel=0.03)
    assert mean(rounded[-8:]) < mean(rounded[:8])
    assert mean(rounded[-8:]) == pytest.approx(mean(whole[-8:]), rel=0.1)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits that are evaluated, in order."""
    splits: list[str] = []
    original = sequence_classification.evaluate

    def counting(model, examples, evaluator, *, generate):  # type: ignore[no-untyped-def]
        splits.append(examples.rows[0].split)
        return original(model, examples, evaluator, generate=generate)

    monkeypatch.setattr(sequence_classification, "evaluate", counting)
    return splits


def test_the_test_split_is_read_twice(base: Path, tmp_path: Path, recorder: tiny.Recorder, read: list[str]) -> None:
    attempt(tmp_path, base, recorder, HeadOnlySpec())
    assert read == ["test", "validation", "validation", "validation", "test"]


def test_a_trial_keeps_no_weights(base: Path, tmp_path: Path, recorder: tiny.Recorder, read: list[str]) -> None:
    job = tiny.job(tmp_path / "trial", base, HeadOnlySpec()).model_copy(update={"trial": True})
    trial = Attempt(job, recorder).run()
    assert read == ["validation"] * 3
    assert {(e.subject, e.split) for e in trial.evaluations} == {("adapted", "validation")}
    assert trial.audit.passed
    assert [file.kind for file in trial.artifacts] == ["metrics"]

    whole = attempt(tmp_path / "whole", base, tiny.Recorder(), HeadOnlySpec())
    assert [e for e in whole.evaluations if e.split == "validation"] == trial.evaluations


def test_what_was_read_and_in_which_order_is_the_same_for_every_arm_of_a_seed(base: Path, tmp_path: Path) -> None:
    short = arguments(max_steps=1)

    def data(name: str, method: MethodSpec, **changes: object) -> DataSeen:
        found = attempt(tmp_path / name, base, tiny.Recorder(), method, short.model_copy(update=changes)).data
        assert found is not None
        return found

    full, head, later = data("a", FullSpec()), data("b", HeadOnlySpec()), data("c", HeadOnlySpec(), seed=1)
    assert full == head
    assert (later.splits, later.order != full.order) == (full.splits, True)


@pytest.mark.parametrize("method", tiny.METHODS, ids=lambda m: m.kind)
def test_the_clocks_sum_to_the_wall_time(trained: Trained, method: MethodSpec) -> None:
    result, recorder, _ = trained(method)
    clocks = result.clocks
    assert clocks.accounted == pytest.approx(clocks.wall, rel=0.01)
    steady = clocks.train - clocks.ledger_steady
    assert recorder.seen[-1].seconds == pytest.approx(steady + clocks.ledger, abs=0.05)
    assert clocks.ledger > 0 and clocks.ledger_steady > 0
    assert min(clocks.load, clocks.tokenize, clocks.baseline, clocks.forward, clocks.optimizer, clocks.evaluate) > 0


@pytest.mark.slow
def test_evaluations_come_every_so_many_steps_if_so_wanted(base: Path, tmp_path: Path, recorder: tiny.Recorder) -> None:
    result = attempt(tmp_path, base, recorder, LORA, arguments(eval_strategy="steps", eval_steps=10))
    assert [e.step for e in result.evaluations if e.split == "validation"] == [10, 20, 24]


def test_training_stops_when_evaluations_get_no_better(base: Path, tmp_path: Path, recorder: tiny.Recorder) -> None:
    training = arguments(num_train_epochs=50, learning_rate=2e-2, early_stopping_patience=2)
    result = attempt(tmp_path, base, recorder, FullSpec(), training)
    validations = [e for e in result.evaluations if e.split == "validation"]
    assert result.steps < 50 * 8
    assert validations[-1].step == result.steps
    assert [e.step for e in validations][-3] == result.best_step
    assert any(line.startswith(f"Stopped early at step {result.steps}") for line in recorder.logs)


def test_checkpointing_changes_no_loss(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]
    forward = BertAttention.forward  # inside of a block: transformers looks whether a block's own forward is its own

    def counting(self, *arguments, **options):  # type: ignore[no-untyped-def]
        calls[0] += self.training
        return forward(self, *arguments, **options)

    monkeypatch.setattr(BertAttention, "forward", counting)
    losses, times = [], []
    for name, checkpointing in (("kept", False), ("computed again", True)):
        recorder, calls[0] = tiny.Recorder(), 0
        attempt(tmp_path / name, base, recorder, LORA, arguments(gradient_checkpointing=checkpointing, max_steps=6))
        losses.append([s.loss for s in recorder.seen])
        times.append(calls[0])
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    assert times == [2 * 6, 2 * 2 * 6], "two blocks, six steps; and each again for its backward pass"


def test_a_model_that_cannot_checkpoint_is_refused_by_the_name_of_the_argument(
    base: Path, tmp_path: Path, recorder: tiny.Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BertPreTrainedModel, "supports_gradient_checkpointing", False)
    with pytest.raises(RunFailed, match=r"^training\.gradient_checkpointing: .*'bert'") as failed:
        attempt(tmp_path, base, recorder, LORA, arguments(gradient_checkpointing=True))
    assert failed.value.code is FailureCode.BAD_CONFIGURATION


def test_b_learns_faster_than_a_with_lora_plus() -> None:
    spec = LoraSpec(loraplus_lr_ratio=16)
    a, b = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2, 2))
    named = {"x.lora_A.default.weight": a, "x.lora_B.default.weight": b}
    optimizer = optimizer_of(spec, named, 0.01, 0.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group["factor"]
    a.grad, b.grad = torch.ones(2, 2), torch.ones(2, 2)
    optimizer.step()
    assert (1 - b[0, 0].item()) / (1 - a[0, 0].item()) == pytest.approx(16, rel=1e-3)


@pytest.mark.slow
def test_a_run_trains_on_its_share_of_the_rows_only(base: Path, tmp_path: Path) -> None:
    """Epochs, steps and the hash of the data are those of the share; the test items stay."""
    recorder = tiny.Recorder()
    whole = attempt(tmp_path / "whole", base, tiny.Recorder(), LORA)
    half = attempt(tmp_path / "half", base, recorder, LORA, arguments(train_fraction=0.5))
    assert (whole.steps, half.steps) == (24, 12)
    assert whole.data and half.data and whole.data.splits != half.data.splits
    assert [len(items) for evaluation, items, _scores in recorder.evaluations if evaluation.split == "test"] == [24, 24]


def test_no_rank_of_a_seed_shares_its_dropout_with_another_seed() -> None:
    seeds = {dropout_seed(seed, rank) for seed in range(50) for rank in range(8)}
    assert len(seeds) == 400
    torch.manual_seed(dropout_seed(2**31, 7))  # torch takes it


def test_warm_up_rises_to_the_peak_or_is_a_share_and_a_single_step_has_the_full_rate() -> None:
    factors = [factor(step, 10, 4, "linear") for step in range(1, 11)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert warmup(0.06, 246) == 15
    assert warmup(0, 246) == 0
    assert warmup(30, 246) == 30
    assert warmup(30, 20) == 20
    assert factor(1, 1, 1, "linear") == 1
    assert factor(1, 1, 0, "cosine") == 1


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_without_warm_up_it_is_transformers_schedule(kind: Schedule) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(kind, optimizer, num_warmup_steps=0, num_training_steps=12)
    for step in range(1, 13):
        assert factor(step, 12, 0, kind) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
