"""The work of a run is the sum over its batches, where two texts of a row are padded apart too."""

from pathlib import Path

import pytest

from app.domain.methods import FullSpec
from app.domain.resources.work import Work
from app.domain.runs.job import TrainJob
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import pairs as tiny_pairs
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine.estimation.test_estimate import TWO_STEPS, request_of
from worker.engine.data.batches.batches import read
from worker.engine.data.batches.order import Order
from worker.engine.estimation.estimate import estimate_run, fake_steps, work_of_batches
from worker.engine.estimation.unloaded import unloaded
from worker.engine.models.load import load_tokenizer
from worker.engine.tasks import TASKS


def one_text(folder: Path) -> TrainJob:
    """Texts of 3 to 14 words."""
    table = [row._replace(text=" ".join(["the cat"] * (1 + i % 6))) for i, row in enumerate(tiny.rows())]
    return tiny.job(folder / "job", tiny.save_model(folder / "model"), FullSpec(), TWO_STEPS, table)


def prompts(folder: Path) -> TrainJob:
    """Long prompts beside short completions, and the reverse."""
    table = [row._replace(prompt="count from one " * (1 + i % 5), completion=" two three" * (1 + (i // 5) % 4))
             for i, row in enumerate(tiny_lm.pairs())]  # fmt: skip
    base = tiny_lm.save_model(folder / "model", "t5")
    return tiny_lm.job(folder / "job", base, "seq2seq-lm", table, method=FullSpec(), training=TWO_STEPS)


def queries(folder: Path) -> TrainJob:
    """Short queries beside passages of 1 to 16 words."""
    table = [row._replace(passage=f"{'the cat ' * (i % 9)}{row.passage}") for i, row in enumerate(tiny_pairs.rows())]
    return tiny_pairs.job(folder / "job", tiny.save_model(folder / "model"), FullSpec(), TWO_STEPS, table)


@pytest.mark.slow
@pytest.mark.parametrize("made", [one_text, prompts, queries])
def test_the_work_of_a_run_is_that_of_its_batches(made, tmp_path: Path) -> None:
    job = made(tmp_path)
    request = request_of(job)
    estimated = estimate_run(request, Path(job.dataset_file))
    built, task = unloaded(request), TASKS[job.spec.task]
    rows = read(job.dataset_file, job.dataset_format)["train"]
    train = task.encode(rows, "test", load_tokenizer(Path(job.model_location)), built.base, job, tiny.Recorder())
    steps = fake_steps(built, request)
    each = [
        steps.step(task.collate(train, batch, 0))[1] for step in Order(train, TWO_STEPS).first_epoch() for batch in step
    ]
    whole = sum(each, Work()) + steps.of_update * len(each)
    assert len(set(each)) > 2 and estimated.train_work is not None
    assert estimated.train_flops == pytest.approx(whole.flops, rel=0.01)
    assert estimated.train_work.bytes == pytest.approx(whole.bytes, rel=0.02)
    assert estimated.train_work.calls == pytest.approx(whole.calls, rel=0.02)


def test_four_lengths_give_four_coefficients_of_an_encoder_decoder() -> None:
    def of_batch(rows: int, prompt: int, completion: int) -> Work:
        tokens = 5 * prompt + 11 * completion + 0.5 * (prompt**2 + prompt * completion + completion**2)
        return Work(40, 1000 + rows * tokens, 2 * rows * tokens)

    known = {sides: of_batch(16, *sides) for sides in ((100, 20), (50, 10), (25, 5), (50, 20))}
    expected = of_batch(8, 90, 30) + of_batch(4, 10, 60)
    found = work_of_batches([(8, (90, 30)), (4, (10, 60))], 2, 16, known, "seq2seq-lm")
    assert tuple(found) == pytest.approx(tuple(expected))


def test_the_heaviest_batch_of_two_texts_is_the_one_with_the_most_padded_tokens(tmp_path: Path) -> None:
    job = prompts(tmp_path)
    rows = read(job.dataset_file, job.dataset_format)["train"]
    built = unloaded(request_of(job))
    train = TASKS["seq2seq-lm"].encode(
        rows, "test", load_tokenizer(Path(job.model_location)), built.base, job, tiny.Recorder()
    )
    long_prompt = max(range(len(rows)), key=lambda i: len(train.tokens[i]))
    long_reply = max(range(len(rows)), key=lambda i: len(train.targets[i]) - len(train.tokens[i]))
    batch = TASKS["seq2seq-lm"].collate(train, [long_prompt, long_reply], 0)
    weight, padding = train.weight([long_prompt, long_reply])
    assert weight == batch.inputs["input_ids"].numel() + batch.labels.numel()
    assert weight > 2 * max(train.lengths[long_prompt], train.lengths[long_reply])
    assert padding == weight - train.lengths[long_prompt] - train.lengths[long_reply]
