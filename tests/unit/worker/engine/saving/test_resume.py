"""A training that was stopped and goes on is the one that was never stopped, to the last digit."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, LeanFullSpec, LoraSpec, MethodSpec
from app.domain.runs.checkpoint import STATE_FILE
from app.domain.runs.result import RunResult
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.progress import Stopped
from worker.engine.loop.step import optimizer_of
from worker.engine.saving import resumable
from worker.engine.saving.resume import Checkpoint, Checkpoints

TRAINING = tiny.FAST.model_copy(update={"num_train_epochs": 2, "gradient_accumulation_steps": 2})
LORA = LoraSpec(r=4, lora_dropout=0.1, target_modules=["query", "value"])
LEAN = LeanFullSpec(optim="adamw_bnb_8bit", weight_storage="bf16-stochastic")
METHODS: list[MethodSpec] = [FullSpec(), LORA, LEAN]
STEPS = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # With dropout: the generators' state is part of what must be kept.
    return tiny.save_model(tmp_path_factory.mktemp("model"), hidden_dropout_prob=0.1)


def whole(directory: Path, model: Path, method: MethodSpec, training: TrainingArguments = TRAINING) -> RunResult:
    """A run from beginning to end."""
    recorder = tiny.Recorder()
    result = Attempt(tiny.job(directory, model, method, training), recorder).run()
    assert len(recorder.seen) == result.steps
    return result


Undisturbed = Callable[..., tuple[RunResult, Path]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Undisturbed:
    """A method's run from beginning to end, and its folder; each is trained once."""

    @cache
    def run(kind: str, bf16: bool) -> tuple[RunResult, Path]:
        folder = tmp_path_factory.mktemp(kind) / "whole"
        method = next(method for method in METHODS if method.kind == kind)
        return whole(folder, model, method, TRAINING.model_copy(update={"bf16": bf16})), folder

    return lambda method, bf16=False: run(method.kind, bf16)


def stopped(directory: Path, model: Path, method: MethodSpec, at: int, training: TrainingArguments = TRAINING) -> Path:
    """Run until it is stopped before the batch `at` (from 0) of its training; its checkpoint, moved to safety."""
    recorder = tiny.Recorder(stop_at=at)
    with pytest.raises(Stopped):
        Attempt(tiny.job(directory, model, method, training), recorder).run()
    [(step, folder)] = recorder.checkpoints
    assert step == at // 2
    return Path(shutil.copytree(folder, directory / "kept"))


def losses(directory: Path) -> list[tuple[float, float]]:
    """Loss and norm of the gradient of every step, as the attempt's own log has them."""
    lines = (directory / "output" / "metrics.jsonl").read_text().splitlines()
    return [(json.loads(line)["loss"], json.loads(line)["grad_norm"]) for line in lines]


def predictions(result: RunResult) -> list[tuple[str, float]]:
    """What every evaluation found."""
    return [(e.split, e.loss) for e in result.evaluations]


@pytest.mark.by_day
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)
@pytest.mark.parametrize("at", [2, *(pytest.param(at, marks=pytest.mark.slow) for at in (3, 8, 15)), 11])
def test_a_run_stopped_at_any_batch_has_the_same_losses_as_one_that_was_not(
    tmp_path: Path, model: Path, undisturbed: Undisturbed, method: MethodSpec, at: int
) -> None:
    training = TRAINING.model_copy(update={"bf16": method.computes_in_bf16})
    expected, folder = undisturbed(method, method.computes_in_bf16)
    kept = stopped(tmp_path / "first", model, method, at, training)

    recorder = tiny.Recorder()
    job = tiny.job(tmp_path / "second", model, method, training).model_copy(update={"resume": str(kept)})
    result = Attempt(job, recorder).run()

    assert result.resumed_from == at // 2
    assert losses(tmp_path / "second") == losses(folder)
    assert [step.step for step in recorder.seen] == list(range(1, STEPS + 1))  # reported again: the record is whole
    assert predictions(result) == predictions(expected)
    assert (result.tokens, result.best_step) == (expected.tokens, expected.best_step)
    weights = [f for f in expected.artifacts if f.kind in ("model", "adapter") and f.name.endswith(".safetensors")]
    assert weights
    assert {f.sha256 for f in weights} <= {f.sha256 for f in result.artifacts}


def test_a_stop_in_the_evaluation_does_not_lose_it(
    tmp_path: Path, model: Path, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = undisturbed(LORA)
    recorder = tiny.Recorder()
    attempt = Attempt(tiny.job(tmp_path / "first", model, LORA, TRAINING), recorder)

    def stop_in_the_first_validation() -> None:
        if recorder.phases[-1].value == "evaluate":
            raise Stopped

    monkeypatch.setattr(recorder, "raise_if_stopped", stop_in_the_first_validation)
    with pytest.raises(Stopped):
        attempt.run()
    [(step, folder)] = recorder.checkpoints
    assert step == 4 and Checkpoint(folder).state.evaluation_due

    job = tiny.job(tmp_path / "second", model, LORA, TRAINING).model_copy(update={"resume": str(folder)})
    assert predictions(Attempt(job, tiny.Recorder()).run()) == predictions(expected)


def test_checkpoints_are_left_as_often_as_asked_and_two_stay(tmp_path: Path, model: Path) -> None:
    recorder = tiny.Recorder()
    job = tiny.job(tmp_path, model, LORA, TRAINING).model_copy(update={"checkpoint_seconds": 0.0})
    Attempt(job, recorder).run()
    assert [step for step, _ in recorder.checkpoints] == list(range(1, STEPS + 1))
    assert [folder.exists() for _, folder in recorder.checkpoints] == [False] * (STEPS - 2) + [True] * 2


def test_a_full_disk_costs_a_checkpoint_only(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engine.saving.resume.Checkpoints.room", lambda self, trainable, optimizer: False)
    recorder = tiny.Recorder()
    job = tiny.job(tmp_path, model, LORA, TRAINING).model_copy(update={"checkpoint_seconds": 0.0})
    assert Attempt(job, recorder).run().steps == STEPS
    assert not recorder.checkpoints
    assert "No checkpoint at step 1: the disk is nearly full." in recorder.logs


@pytest.mark.parametrize("error", [SafetensorError("No space left on device"), OSError(28, "No space left on device")])
def test_a_disk_that_fills_up_while_a_checkpoint_is_written_costs_that_checkpoint_alone(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    written = 0

    def save_some(tensors: object, file: Path, **options: object) -> None:
        nonlocal written
        written += file.name == "optimizer.safetensors"
        if written == 3 and file.name == "optimizer.safetensors":
            file.write_bytes(b"half of it")
            raise error
        save_file(tensors, file, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("worker.engine.saving.resume.save_file", save_some)
    recorder = tiny.Recorder()
    job = tiny.job(tmp_path, model, LORA, TRAINING).model_copy(update={"checkpoint_seconds": 0.0})
    assert Attempt(job, recorder).run().steps == STEPS
    assert [step for step, _ in recorder.checkpoints] == [1, 2, 4, 5, 6, 7, 8]
    assert any(line.startswith("No checkpoint at step 3: ") and "No space left" in line for line in recorder.logs)
    assert {path.name for path in (tmp_path / "output" / ".checkpoints").iterdir()} == {"7", "8"}


@pytest.mark.slow
def test_peaks_of_another_device_are_left_out_and_that_is_said(tmp_path: Path, model: Path) -> None:
    kept = stopped(tmp_path / "first", model, LORA, at=6)
    file = kept / STATE_FILE
    state = json.loads(file.read_text()) | {"peaks": {"train": 10**15}}
    assert state["device"] == "cpu"
    assert state["bf16"] is False
    for name, change in (("here", {}), ("elsewhere", {"device": "cuda"}), ("rounded", {"bf16": True})):
        file.write_text(json.dumps(state | change))
        recorder = tiny.Recorder()
        job = tiny.job(tmp_path / name, model, LORA, TRAINING).model_copy(update={"resume": str(kept)})
        peak = Attempt(job, recorder).run().memory.train_peak_bytes
        left_out = any("The checkpoint was written on" in line and "are ignored" in line for line in recorder.logs)
        assert (peak == 10**15, left_out) == ((True, False) if name == "here" else (False, True))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["0" * 64, None], ids=["another", "unknown"])
def test_a_run_whose_rows_have_another_order_than_its_checkpoints_starts_again(
    tmp_path: Path, model: Path, undisturbed: Undisturbed, order: str | None
) -> None:
    expected, _ = undisturbed(LORA)
    kept = stopped(tmp_path / "first", model, LORA, at=6)
    file = kept / STATE_FILE
    state = json.loads(file.read_text())
    assert expected.data is not None and state["order"] == expected.data.order
    file.write_text(json.dumps(state | {"order": order}))
    recorder = tiny.Recorder()
    job = tiny.job(tmp_path / "second", model, LORA, TRAINING).model_copy(update={"resume": str(kept)})
    result = Attempt(job, recorder).run()
    assert result.resumed_from is None and predictions(result) == predictions(expected)
    assert [step.step for step in recorder.seen] == list(range(1, STEPS + 1))
    assert any("The checkpoint of step 3 is unusable" in line and "another order" in line for line in recorder.logs)


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_a_run_that_reads_a_stored_prefix_goes_on_to_the_last_digit(tmp_path: Path, model: Path, bf16: bool) -> None:
    method = LORA.model_copy(update={"layers_to_transform": [1]})
    training = TRAINING.model_copy(update={"bf16": bf16})

    def run(name: str, stop_at: int | None = None, resume: Path | None = None) -> tiny.Recorder:
        recorder = tiny.Recorder(stop_at)
        job = tiny.job(tmp_path / name, model, method, training)
        update = {"cache": str(tmp_path / "cache"), "cache_bytes": 10**8, "resume": str(resume) if resume else None}
        with pytest.raises(Stopped) if stop_at else nullcontext():
            Attempt(job.model_copy(update=update), recorder).run()
        assert any("are read from the cache" in line for line in recorder.logs)
        return recorder

    run("whole")
    [(_, folder)] = run("first", stop_at=7).checkpoints
    run("second", resume=folder)
    assert losses(tmp_path / "second") == losses(tmp_path / "whole")


@pytest.mark.by_day
@pytest.mark.parametrize("packing", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_a_language_model_goes_on_to_the_last_digit(tmp_path: Path, packing: bool, bf16: bool) -> None:
    llama = tiny_lm.save_model(tmp_path / "llama", "llama", attention_dropout=0.1)
    method = LoraSpec(r=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
    training = tiny_lm.FAST.model_copy(update={"packing": packing, "bf16": bf16})

    def run(name: str, stop_at: int | None = None, resume: Path | None = None) -> list[tuple[int, Path]]:
        recorder = tiny.Recorder(stop_at)
        job = tiny_lm.job(tmp_path / name, llama, "causal-lm", tiny_lm.pairs(), method=method, training=training)
        with pytest.raises(Stopped) if stop_at else nullcontext():
            Attempt(job.model_copy(update={"resume": str(resume) if resume else None}), recorder).run()
        return recorder.checkpoints

    run("whole")
    [(_, folder)] = run("first", stop_at=4)
    run("second", resume=folder)
    assert len(losses(tmp_path / "second")) == 10
    assert losses(tmp_path / "second") == losses(tmp_path / "whole")


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, model: Path) -> None:
    kept = stopped(tmp_path, model, LORA, at=6)
    damaged = kept / "optimizer.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(RunFailed, match=r"optimizer\.safetensors is corrupt"):
        Checkpoint(kept)


@pytest.mark.parametrize("method", [FullSpec(), LEAN], ids=["fused AdamW", "lean"])
def test_only_a_fused_optimizer_has_its_step_on_the_device(tmp_path: Path, model: Path, method: MethodSpec) -> None:
    """Lean full fine-tuning reads it at every parameter, and would wait for the GPU each time."""
    folder = stopped(tmp_path, model, method, 4, TRAINING.model_copy(update={"bf16": method is LEAN}))
    stored = load_file(folder / "weights.safetensors")
    weights = {name: nn.Parameter(weight.float().to("meta")) for name, weight in stored.items()}
    optimizer = optimizer_of(method, {name: nn.Parameter(weight.float()) for name, weight in stored.items()}, 1e-3, 0.0)
    for group in optimizer.param_groups:
        group["params"] = list(weights.values())
    Checkpoint(folder).restore(weights, optimizer)
    devices = {optimizer.state[weight]["step"].device.type for weight in weights.values()}
    assert devices == {"cpu" if method is LEAN else "meta"}


def test_a_checkpoint_holds_no_pickle(tmp_path: Path, model: Path) -> None:
    kept = stopped(tmp_path, model, FullSpec(), at=6)
    assert {path.suffix for path in kept.iterdir()} == {".safetensors", ".json", ".jsonl"}


def test_time_before_the_stop_counts(tmp_path: Path, model: Path) -> None:
    kept = stopped(tmp_path / "first", model, LORA, at=14)
    before = Checkpoint(kept).state.seconds
    job = tiny.job(tmp_path / "second", model, LORA, TRAINING).model_copy(update={"resume": str(kept)})
    clocks = Attempt(job, tiny.Recorder()).run().clocks
    assert clocks.forward >= before["forward"] > 0
    assert clocks.ledger > sum(value for name, value in before.items() if name.endswith("|ledger")) > 0
    assert clocks.accounted == pytest.approx(clocks.wall, rel=0.01)


@pytest.mark.parametrize(("limit", "warns"), [(15.0, True), (1e9, False), (None, False)])
def test_a_run_says_when_a_stop_would_not_leave_time_for_its_checkpoint(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, limit: float | None, warns: bool
) -> None:
    """As full fine-tuning of a large model does: here every checkpoint counts as large, and the disk as slow."""
    monkeypatch.setattr(resumable, "LARGE", 1)
    measured = Checkpoints.seconds
    monkeypatch.setattr(Checkpoints, "seconds", lambda self, size: 100 + measured(self, size))
    recorder = tiny.Recorder()
    job = tiny.job(tmp_path, model, FullSpec(), TRAINING.model_copy(update={"max_steps": 1}))
    Attempt(job.model_copy(update={"stop_seconds": limit}), recorder).run()
    lines = [line for line in recorder.logs if "VEZNA_STOP_SECONDS" in line]
    assert len(lines) == warns
    if lines:
        assert "takes about 10" in lines[0] and "killed after 15 s" in lines[0] and "to 140 or more" in lines[0]
    assert not list((tmp_path / "output").rglob("rate.new"))
