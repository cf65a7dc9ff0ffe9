"""Resource estimates, compared with measured runs by owner, on tiny models of every kind."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import FullSpec, HeadOnlySpec, LeanFullSpec, LoraSpec, MethodSpec, QloraSpec
from app.domain.resources.estimate import EstimateRequest, MapRequest
from app.domain.resources.ledger import OWNERS, Ledger
from app.domain.runs.job import TrainJob
from app.domain.runs.result import RunResult
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Format
from tests.support.tiny import images as tiny_images
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine import adapted as tried
from worker.engine.estimation import unloaded as unloading
from worker.engine.estimation.estimate import estimate_run, memory_map
from worker.engine.estimation.shapes import shapes
from worker.engine.estimation.unloaded import unloaded
from worker.engine.loop import attempt
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.failures import failure

TRIES = [(spec, name) for spec, name in tried.TRIES if not isinstance(spec, QloraSpec)]
every_try = tried.tries_on(TRIES)
TWO_STEPS = tiny.FAST.model_copy(update={"num_train_epochs": 1, "max_length": 24, "max_new_tokens": 4})


def job(folder: Path, name: str, spec: MethodSpec, training: TrainingArguments = TWO_STEPS) -> TrainJob:
    """A run of a method on a tiny model."""
    if name == "bert":
        return tiny.job(folder, tiny.save_model(folder / "model"), spec, training)
    base = tiny_lm.save_model(folder / "model", name)
    return tiny_lm.job(folder, base, tried.MODELS[name], tiny_lm.pairs(), method=spec, training=training)


def request_of(job: TrainJob, **changes: Any) -> EstimateRequest:
    """The estimate request of a job."""
    return EstimateRequest(
        location=job.model_location,
        task=job.spec.task,
        labels=max(1, len(job.labels)),
        method=job.spec.method,
        training=job.spec.training,
        dataset_file=job.dataset_file,
        dataset_format=job.dataset_format,
        device="cpu",
        bf16=bool(job.spec.training.bf16),
    ).model_copy(update=changes)


def steady(result: RunResult) -> Ledger:
    """The measured ledger of the largest step after the first."""
    ledger = result.memory.ledger
    assert ledger is not None
    return ledger


def estimated_and_measured(
    spec: MethodSpec, name: str, folder: Path, training: TrainingArguments = TWO_STEPS
) -> tuple[Ledger, Ledger]:
    """The ledgers of a run, estimated and measured."""
    run = job(folder, name, spec, training)
    estimated = estimate_run(request_of(run), Path(run.dataset_file)).ledger
    return estimated, steady(Attempt(run, tiny.Recorder()).run())


def alike(estimated: Ledger, measured: Ledger) -> None:
    """Equal by owner, except for scalars, the batch itself, and memory that depends on values."""
    assert estimated.moment == measured.moment
    for owner in OWNERS:
        expected = pytest.approx(measured.owners[owner], abs=2048 + 0.002 * measured.total)
        assert estimated.owners[owner] == expected, owner


@pytest.mark.by_day
@pytest.mark.slow
@every_try
def test_an_estimate_equals_what_a_run_holds_and_saves(spec: MethodSpec, name: str, tmp_path: Path) -> None:
    run = job(tmp_path, name, spec)
    estimated = estimate_run(request_of(run), Path(run.dataset_file))
    result = Attempt(run, tiny.Recorder()).run()
    alike(estimated.ledger, steady(result))
    chosen_in_training = 0.02 if spec.kind == "adalora" else 0.0
    assert estimated.file_bytes == pytest.approx(result.weights_file_bytes, rel=chosen_in_training, abs=0)


def kinds(*names: str) -> pytest.MarkDecorator:
    """A test for each kind of model, with the tests of the night for those that are rarely tried."""
    marked = [pytest.param(name, marks=pytest.mark.nightly if name in tried.RARE else []) for name in names]
    return pytest.mark.parametrize("name", marked)


SETTINGS = {"bf16": {"full": ("bert", "t5"), "lora": ("llama", "gpt2")},
            "gradient_checkpointing": {"full": ("llama", "gpt2"), "lora": ("bert", "t5")}}  # fmt: skip
"""By setting and method, kinds of models: each setting meets each method and each kind."""
other_settings = pytest.mark.parametrize(
    ("setting", "spec", "name"),
    [
        pytest.param(setting, spec, name, marks=pytest.mark.nightly if name in tried.RARE else [])
        for setting, tries in SETTINGS.items()
        for spec in (FullSpec(), LoraSpec(r=4))
        for name in tries[spec.kind]
    ],
    ids=lambda value: getattr(value, "kind", value),
)


@pytest.mark.by_day
@pytest.mark.slow
@other_settings
def test_so_it_is_under_other_settings(setting: str, spec: MethodSpec, name: str, tmp_path: Path) -> None:
    estimated, measured = estimated_and_measured(spec, name, tmp_path, TWO_STEPS.model_copy(update={setting: True}))
    alike(estimated, measured)


@pytest.mark.slow
def test_offloaded_activations_are_estimated_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (attempt, unloading):  # a CPU stands in for the card
        monkeypatch.setattr(module, "refuse_offload", lambda method, device: None)
    kept = LeanFullSpec(optim="adamw_torch", weight_storage="float32")
    training = TWO_STEPS.model_copy(update={"gradient_checkpointing": True})
    estimated, measured = estimated_and_measured(
        kept.model_copy(update={"offload_activations": True}), "llama", tmp_path / "offloaded", training
    )
    alike(estimated, measured)
    assert estimated.host == measured.host == 2 * measured.rows * measured.length * 32 * 4, "two blocks' inputs"
    plain, _measured = estimated_and_measured(kept, "llama", tmp_path / "kept", training)
    assert plain.host == 0 and estimated.total <= plain.total


@pytest.mark.slow
def test_a_second_batch_of_a_step_finds_gradients_there(tmp_path: Path) -> None:
    training = TWO_STEPS.model_copy(update={"gradient_accumulation_steps": 2})
    table = [row._replace(text="the cat and a dog") for row in tiny.rows()]
    run = tiny.job(tmp_path, tiny.save_model(tmp_path / "model"), FullSpec(), training, table)
    estimated = estimate_run(request_of(run), Path(run.dataset_file)).ledger
    assert estimated.owners["gradients"] > 0
    alike(estimated, steady(Attempt(run, tiny.Recorder()).run()))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "messages"])
def test_rows_of_every_format_are_measured_as_they_are(form: Format, tmp_path: Path) -> None:
    base = tiny_lm.save_model(tmp_path / "model", "llama", chat_template=tiny_lm.CHAT_TEMPLATE)
    rows = tiny_lm.ROWS[form]()
    training = TWO_STEPS.model_copy(update={"num_train_epochs": 2})  # so that every batch has a second turn
    run = tiny_lm.job(tmp_path, base, "causal-lm", rows, form, method=LoraSpec(r=4), training=training)
    estimated = estimate_run(request_of(run), Path(run.dataset_file))
    assert estimated.lengths.source == "dataset" and estimated.lengths.rows == 40
    alike(estimated.ledger, steady(Attempt(run, tiny.Recorder()).run()))


@pytest.mark.slow
def test_packed_rows_are_estimated_packed(tmp_path: Path) -> None:
    training = TWO_STEPS.model_copy(update={"packing": True, "max_length": 32})
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    run = tiny_lm.job(tmp_path, base, "causal-lm", tiny_lm.pairs(), method=FullSpec(), training=training)
    alike(estimate_run(request_of(run), Path(run.dataset_file)).ledger, steady(Attempt(run, tiny.Recorder()).run()))


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "name"),
    [(LoraSpec(r=4), "bert"), (FullSpec(), "llama"), pytest.param(LoraSpec(r=4), "gpt2", marks=pytest.mark.slow)],
    ids=["lora-bert", "full-llama", "lora-gpt2"],
)
def test_padding_free_batches_are_estimated_without_padding(spec: MethodSpec, name: str, tmp_path: Path) -> None:
    """Of two epochs, so that the heaviest batch has a step other than the first, before which there are no moments."""
    training = TWO_STEPS.model_copy(update={"padding_free": True, "num_train_epochs": 2})
    run = job(tmp_path, name, spec, training)
    estimated = estimate_run(request_of(run), Path(run.dataset_file))
    alike(estimated.ledger, steady(Attempt(run, tiny.Recorder()).run()))
    padded = request_of(run, training=training.model_copy(update={"padding_free": False}))
    assert estimated.train_flops < estimate_run(padded, Path(run.dataset_file)).train_flops


WIDE: dict[str, dict[str, int]] = {
    "llama": {"hidden_size": 64, "intermediate_size": 128},
    "t5": {"d_model": 64, "d_ff": 128, "d_kv": 32},
}
"""Whole blocks of 64 weights in a row."""


@pytest.mark.slow
@kinds(*WIDE)
def test_a_base_in_four_bits_is_estimated_from_its_shapes(name: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    spec = QloraSpec(r=4)
    base = tiny_lm.save_model(tmp_path / "model", name, **WIDE[name])
    run = tiny_lm.job(tmp_path, base, tried.MODELS[name], tiny_lm.pairs(), method=spec, training=TWO_STEPS)
    estimated = estimate_run(request_of(run), Path(run.dataset_file)).ledger
    measured = steady(Attempt(run, tiny.Recorder()).run())
    assert estimated.owners["optimizer"] == measured.owners["optimizer"]
    assert estimated.total == pytest.approx(measured.total, rel=0.05)


@pytest.mark.slow
def test_without_rows_each_is_as_long_as_it_may_be(tmp_path: Path) -> None:
    run = job(tmp_path, "llama", FullSpec())
    found = estimate_run(request_of(run, dataset_file=""), None)
    assert (found.ledger.rows, found.ledger.length) == (8, 24)
    assert found.lengths.source == "max_length" and (found.steps, found.train_flops) == (0, 0)
    with_rows = estimate_run(request_of(run), Path(run.dataset_file))
    assert with_rows.ledger.total < found.ledger.total and with_rows.steps == 5


def test_an_evaluation_is_estimated_with_the_optimizers_state_beside_it(tmp_path: Path) -> None:
    run = job(tmp_path, "bert", FullSpec())
    found = estimate_run(request_of(run), Path(run.dataset_file))
    assert found.phases["evaluate"] - found.phases["baseline"] == found.ledger.owners["optimizer"]
    assert found.peak_bytes == max(found.phases.values()) and found.phase in found.phases


@pytest.mark.slow
def test_operations_grow_with_rows_and_are_fewer_where_less_trains(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    flops = {}
    for rows in (8, 16):
        for spec in (FullSpec(), HeadOnlySpec()):
            training = TWO_STEPS.model_copy(update={"per_device_train_batch_size": rows, "cache_frozen_prefix": False})
            run = tiny.job(tmp_path / f"{rows}{spec.kind}", model, spec, training)
            flops[rows, spec.kind] = estimate_run(request_of(run, dataset_file=""), None).step_flops
    assert flops[16, "full"] == 2 * flops[8, "full"]
    assert flops[8, "full"] > 2.5 * flops[8, "head-only"]  # forward alone, against forward and twice as much back


def test_blocks_that_are_computed_once_are_no_part_of_a_step(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    flops = {}
    for cached in (True, False):
        training = TWO_STEPS.model_copy(update={"cache_frozen_prefix": cached})
        run = tiny.job(tmp_path / str(cached), model, HeadOnlySpec(), training)
        flops[cached] = estimate_run(request_of(run, dataset_file=""), None).step_flops
    assert 0 < flops[True] < flops[False] / 10


@pytest.mark.slow
def test_what_a_training_needs_is_the_sum_over_its_batches(tmp_path: Path) -> None:
    run = job(tmp_path, "bert", FullSpec())
    once = estimate_run(request_of(run), Path(run.dataset_file))
    twice = estimate_run(
        request_of(run, training=TWO_STEPS.model_copy(update={"num_train_epochs": 2})), Path(run.dataset_file)
    )
    assert twice.train_flops == pytest.approx(2 * once.train_flops)
    assert once.step_flops * once.steps * 0.5 < once.train_flops < once.step_flops * once.steps
    assert twice.steps == 2 * once.steps


@pytest.mark.slow
def test_a_share_of_the_rows_is_estimated_as_that_many_rows(tmp_path: Path) -> None:
    run = job(tmp_path, "bert", FullSpec())
    whole = estimate_run(request_of(run), Path(run.dataset_file))
    share = TWO_STEPS.model_copy(update={"train_fraction": 0.5})
    half = estimate_run(request_of(run, training=share), Path(run.dataset_file))
    assert whole.lengths.rows == 2 * half.lengths.rows > 0
    assert whole.steps == 2 * half.steps


@pytest.mark.slow
@pytest.mark.parametrize("heavy_first", [True, False], ids=["first step", "later step"])
def test_a_short_run_is_estimated_by_the_batches_that_it_meets(heavy_first: bool, tmp_path: Path) -> None:
    """In its first step the optimizer has no state until its passes are over."""
    texts = ["the cat and a dog " * (4 if i % 16 < 8 else 1) for i in range(64)]
    table = [row._replace(text=text) for row, text in zip(tiny.rows(train=64), texts, strict=False)]
    table += tiny.rows(train=64)[64:]
    model = tiny.save_model(tmp_path / "model")
    for seed in range(20):
        training = TWO_STEPS.model_copy(update={"max_steps": 2, "seed": seed})
        run = tiny.job(tmp_path / f"{seed}", model, FullSpec(), training, table)
        lengths = [length for _rows, (length,) in _met(run)]
        if (lengths[0] > lengths[1]) if heavy_first else (lengths[0] < lengths[1]):
            break
    found = estimate_run(request_of(run), Path(run.dataset_file))
    result = Attempt(run, tiny.Recorder()).run()
    alike(found.ledger, steady(result))
    assert steady(result).step == (1 if heavy_first and found.ledger.length == lengths[0] else 2)
    highest = max(ledger.total for ledger in result.memory.ledgers)
    assert found.ledger.total == pytest.approx(highest, abs=2048)
    whole = estimate_run(
        request_of(run, training=training.model_copy(update={"max_steps": None})), Path(run.dataset_file)
    )
    assert found.steps == 2 and found.train_flops < whole.train_flops / 2


def _met(run: TrainJob) -> list[tuple[int, tuple[int, ...]]]:
    """Rows and padded length of each batch of a run."""
    base = unloaded(request_of(run)).base
    return shapes(request_of(run), Path(run.dataset_file), base).padded


def test_the_seed_matters_to_an_estimate_only_where_a_run_meets_a_part_of_its_rows() -> None:
    def key(**training: object) -> str:
        return pasted(CONFIG, training=TWO_STEPS.model_copy(update=training)).key

    assert key(seed=1) == key(seed=2)
    assert key(seed=1, max_steps=4) != key(seed=2, max_steps=4)
    assert key(seed=1, num_train_epochs=0.5) != key(seed=2, num_train_epochs=0.5)


@pytest.mark.slow
def test_a_configuration_is_enough_and_cuda_is_estimated_without_it(tmp_path: Path) -> None:
    run = job(tmp_path, "bert", FullSpec())
    on_cpu, on_cuda = (estimate_run(request_of(run, device=device), None) for device in ("cpu", "cuda"))
    assert on_cuda.ledger.owners["activations"] < on_cpu.ledger.owners["activations"]  # attention in one kernel
    assert all(size % 512 == 0 for size in on_cuda.ledger.owners.values())
    found = estimate_run(pasted(CONFIG), None)
    assert found.total == found.trainable and found.ledger.owners["weights"] >= 4 * found.total


CONFIG = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000}  # fmt: skip


def pasted(config: dict[str, Any], **changes: Any) -> EstimateRequest:
    """A request on a configuration alone."""
    return EstimateRequest(
        config=config, task="causal-lm", method=FullSpec(), training=TWO_STEPS, device="cpu", bf16=False
    ).model_copy(update=changes)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pasted({}), "without model_type"),
        (pasted({"model_type": "nonesuch"}), "does not know model_type 'nonesuch'"),
        (pasted({"model_type": "nonesuch", "auto_map": {"AutoModel": "a.B"}}), "never run"),
        (pasted(CONFIG | {"num_hidden_layers": 10**6}), "num_hidden_layers is 1000000"),
        (pasted(CONFIG | {"hidden_size": "wide"}), "config"),
        (pasted(CONFIG, task="seq2seq-lm"), "seq2seq-lm"),
        (pasted(CONFIG, method=LoraSpec(target_modules=["nowhere"])), "q_proj"),
    ],
    ids=["empty", "unknown", "remote code", "too deep", "no number", "another task", "no such layer"],
)
def test_an_impossible_estimate_is_refused_with_a_reason(request_: EstimateRequest, reason: str) -> None:
    with pytest.raises(RunFailed, match=reason) as refused:
        estimate_run(request_, None)
    assert refused.value.message.endswith(".")


@pytest.mark.nightly
def test_a_map_has_a_ledger_for_every_method_length_and_batch() -> None:
    request = MapRequest(
        config=CONFIG,
        task="causal-lm",
        methods=(FullSpec(), LoraSpec(r=4)),
        lengths=(16, 32),
        batch_sizes=(1, 2, 4),
        device="cpu",
        bf16=False,
    )
    cells = memory_map(request).cells
    assert len(cells) == 12
    totals = {(cell.method, cell.length, cell.rows): cell.ledger.total for cell in cells}
    assert totals[0, 16, 4] > totals[0, 16, 1] and totals[0, 32, 4] > totals[0, 16, 4] > totals[1, 16, 4]
    alone = estimate_run(request.cell(LoraSpec(r=4), 32, 2), None)
    assert alone.ledger.total == totals[1, 32, 2]


def test_memory_that_runs_out_leaves_the_ledger_of_that_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = job(tmp_path, "bert", FullSpec())
    attempt = Attempt(run, tiny.Recorder())

    def too_much(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("worker.engine.loop.train.clip", too_much)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        attempt.run()
    found = failure(raised.value, attempt.instruments.memory.peak(), attempt.instruments.ledgers.interrupted)
    assert found.code is FailureCode.OUT_OF_MEMORY and "2,048 MiB more" in found.message
    assert found.ledger is not None and found.ledger.step == 1
    assert found.ledger.owners["gradients"] > 0 and found.ledger.owners["optimizer"] == 0


def test_the_device_is_told_by_what_it_multiplies(tmp_path: Path) -> None:
    result = Attempt(job(tmp_path, "bert", FullSpec()), tiny.Recorder()).run()
    assert result.environment.matmul_flops is not None and result.environment.matmul_flops > 1e8


@pytest.mark.slow
@pytest.mark.parametrize("spec", [FullSpec(), LoraSpec(r=4), HeadOnlySpec()], ids=lambda spec: spec.kind)
def test_an_estimate_of_images_equals_what_a_run_holds(spec: MethodSpec, tmp_path: Path) -> None:
    uncached = tiny_images.FAST.model_copy(update={"num_train_epochs": 1, "cache_frozen_prefix": False})
    run = tiny_images.job(tmp_path, tiny_images.save_model(tmp_path / "model"), spec, uncached)
    estimated = estimate_run(request_of(run), Path(run.dataset_file))
    result = Attempt(run, tiny.Recorder()).run()
    alike(estimated.ledger, steady(result))
    assert (estimated.steps, estimated.lengths.longest, estimated.lengths.rows) == (result.steps, 17, 60)
    assert estimated.ledger.rows == 8 and estimated.ledger.length == 17
    # the last batch of an epoch has 4 of 60 rows, and FLOPs are those of its rows
    assert estimated.train_flops == pytest.approx(estimated.step_flops * 60 / 8, rel=1e-3)
