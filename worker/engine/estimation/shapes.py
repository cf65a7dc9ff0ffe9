"""The shapes of a run's batches, without their contents."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedModel

from app.domain.data.dataset import ImageRow, Split, fraction_of
from app.domain.resources.estimate import EstimateRequest, Lengths
from app.domain.runs.job import TrainJob
from app.domain.runs.spec import RunSpec
from app.domain.tasks import DECODERS, LANGUAGE
from app.domain.tasks import TASKS as FACTS
from worker.engine.data.batches.batches import Batch, Examples, Objective, check_length, learnt, padded, read
from worker.engine.data.batches.order import Order, evaluation_order, heaviest_to_generate
from worker.engine.data.batches.padding_free import without_padding
from worker.engine.data.images import check_shape, load_image_processor, sequence_length, shape_in, shape_of
from worker.engine.models.hub import hub
from worker.engine.models.load import load_tokenizer
from worker.engine.tasks import TASKS
from worker.engine.tasks.causal_lm import masks_padding
from worker.engine.tasks.completions import Completions, most_rows
from worker.engine.tasks.image_classification import of_pixels

PAD = 0
_MASKS = ("attention_mask", "query_mask")
_SPLITS: tuple[Split, ...] = ("train", "test")
_REFERRED: tuple[Split, ...] = ("train", "validation")
"""Splits on which only DPO evaluates the base model."""


@dataclass(frozen=True)
class Shapes:
    """The batches that determine the resources of a run."""

    first: Batch | None
    """The heaviest batch of the first step, before which the optimizer has no state; None if a later one is as
    heavy."""
    heaviest: list[Batch]
    """The heaviest batches of the later steps that the run reaches: the one with the most tokens and, if it is another,
    the one with the most targets; empty for a run of one step."""
    evaluated: Batch
    """The longest rows of the test split, as an evaluation batch."""
    prompts: list[Batch]
    """Its prompts, as generation batches: the one with the most tokens, whose keys and values are large, and the one
    with the most rows, whose logits are; empty without generation."""
    lengths: Lengths
    padded: list[tuple[int, tuple[int, ...]]]
    """Rows and the padded length of each side (`Examples.sides`) of every batch of the first epoch that the run
    reaches; empty without a dataset."""
    passes: int = 0
    """Batches in that epoch: fewer than `padded` has, if they are computed without padding."""
    reference: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """The same of the base model's pass over the pairs on which DPO needs its log-probabilities; empty for others."""
    epochs: float = 0.0
    """The run's steps divided by the steps of these batches."""
    steps: int = 0
    """Optimizer steps of the run; 0 without a dataset."""

    @property
    def trained(self) -> list[Batch]:
        """The first step's, if it counts, and the later ones."""
        return [*([self.first] if self.first else []), *self.heaviest]


def shapes(request: EstimateRequest, dataset: Path | None, model: PreTrainedModel) -> Shapes:
    """Shapes from the rows of a dataset or, without one, with `max_length` tokens in every row. `model` may be on
    `meta`.

    Raises `RunFailed` if a row or a length cannot be used.
    """
    if FACTS[request.task].reads == "images":
        return _of_images(request, dataset, model)
    batches = _of_rows(request, dataset, model) if dataset is not None else _longest(request, model)
    prompts = [_without_full_mask(batch) for batch in batches.prompts]
    first = _without_full_mask(batches.first) if batches.first else None
    heaviest = [_without_full_mask(batch) for batch in batches.heaviest]
    return replace(batches, first=first, heaviest=heaviest, prompts=prompts)


def _without_full_mask(batch: Batch) -> Batch:
    """Drop an attention mask without padding, as transformers does once it has checked the values."""
    full = {name for name, t in batch.inputs.items() if name in _MASKS and t.ndim == 2 and bool(t.all())}
    return replace(batch, inputs={name: t for name, t in batch.inputs.items() if name not in full})


def _of_rows(request: EstimateRequest, dataset: Path, model: PreTrainedModel) -> Shapes:
    training, task = request.training, TASKS[request.task]
    tokenizer = load_tokenizer(hub.description_folder(request.location, request.revision))
    check_length(training.max_length, request.method.virtual_tokens, model, tokenizer)
    rows = read(str(dataset), request.dataset_format, train_fraction=training.train_fraction)
    job = _job(request, dataset)
    # Encoded as test rows: training rows would probe the model, which is impossible on `meta`.
    train, test = (task.encode(rows[split], "test", tokenizer, model, job, _Silent()) for split in _SPLITS)
    if training.packing and isinstance(train, Completions):
        train = replace(train, capacity=training.max_length)
    train = replace(train, padding_free=training.padding_free)
    order = Order(train, training)
    epoch = order.first_epoch()
    first, later = max(epoch[0], key=train.weight), [batch for _step, batch in order.heaviest()]
    counts = _heavier(train, first, later)
    referred = FACTS[request.task].prefers and training.preference_loss == "dpo"
    # DPO also evaluates the base model on the training rows
    evaluated = [test, train] if referred else [test]
    pairs = [task.encode(rows[split], "test", tokenizer, model, job, _Silent()) for split in _REFERRED if referred]

    def collated(indices: Sequence[int]) -> Batch:
        batch = task.collate(train, indices, PAD)
        return without_padding(batch) if training.padding_free else batch

    return Shapes(
        first=collated(first) if counts else None,
        heaviest=[collated(batch) for batch in later],
        evaluated=max((_evaluated(split, request, model) for split in evaluated), key=lambda b: b.labels.numel()),
        prompts=_prompts(test, training.per_device_eval_batch_size, request.method.virtual_tokens),
        lengths=Lengths(
            source="dataset",
            rows=len(train),
            longest=max(train.lengths),
            mean=float(np.mean(train.lengths)),
        ),
        padded=[size for step in epoch for batch in step for size in train.computed(batch)],
        passes=sum(map(len, epoch)),
        reference=tuple(
            size
            for split in pairs
            for batch in evaluation_order(split.lengths, _at_once(split, request, model))
            for size in split.computed(batch)
        ),
        epochs=order.total_steps / len(epoch),
        steps=order.total_steps,
    )


def _of_images(request: EstimateRequest, dataset: Path | None, model: PreTrainedModel) -> Shapes:
    """Images have one shape each: only their numbers are read. A pasted configuration has no image processor, and gives
    the shape itself."""
    training = request.training
    shape = shape_in(model.config)
    if request.config is None:
        shape = shape_of(load_image_processor(hub.description_folder(request.location, request.revision)))
        check_shape(shape, model.config)
    length = sequence_length(model, shape)
    trained, tested = 0, training.per_device_eval_batch_size
    if dataset is not None:
        counts = Counter(pq.read_table(dataset, columns=["split"]).column("split").to_pylist())
        trained, tested = fraction_of(counts["train"], training.train_fraction), min(tested, counts["test"])

    def batch(rows: int) -> Batch:
        return of_pixels(torch.zeros((rows, *shape)), torch.zeros(rows, dtype=torch.int64), length)

    examples = Examples([ImageRow(str(i), "train", b"", 0) for i in range(trained)], [], [length] * trained)
    order = Order(examples, training)
    epoch = order.first_epoch() if trained else []
    only_step = bool(trained) and order.total_steps == 1
    widest = min(training.per_device_train_batch_size, trained or training.per_device_train_batch_size)
    return Shapes(
        first=batch(widest) if only_step else None,
        heaviest=[] if only_step else [batch(widest)],
        evaluated=batch(tested),
        prompts=[],
        lengths=Lengths(source="dataset" if trained else "max_length", rows=trained, longest=length, mean=length),
        padded=[size for step in epoch for rows in step for size in examples.computed(rows)],
        passes=sum(map(len, epoch)),
        epochs=order.total_steps / len(epoch) if epoch else 0.0,
        steps=order.total_steps if trained else 0,
    )


def _evaluated(examples: Examples, request: EstimateRequest, model: PreTrainedModel) -> Batch:
    """The longest rows of a split, as an evaluation batch."""
    longest = max(evaluation_order(examples.lengths, _at_once(examples, request, model)), key=examples.weight)
    return TASKS[request.task].collate(examples, longest, PAD)


def _at_once(examples: Examples, request: EstimateRequest, model: PreTrainedModel) -> int:
    """Rows of an evaluation batch."""
    at_once = request.training.per_device_eval_batch_size
    if request.task in LANGUAGE and len(examples):
        at_once = min(at_once, most_rows(model, max(map(examples.outputs, ([i] for i in range(len(examples)))))))
    return at_once


def _heavier(train: Examples, first: Sequence[int], later: Sequence[Sequence[int]]) -> bool:
    """Whether a batch may need more memory than each of the later ones: it has more tokens or more targets."""
    return all(train.weight(first) > train.weight(batch) for batch in later) or all(
        train.outputs(first) > train.outputs(batch) for batch in later
    )


def _prompts(test: Examples, rows: int, virtual: int) -> list[Batch]:
    """The prompts, padded, each behind the method's virtual tokens."""
    if not isinstance(test, Completions) or not test.prompts:
        return []
    order = evaluation_order([len(prompt) for prompt in test.prompts], rows)
    places = heaviest_to_generate(order)
    batches = []
    for indices in (order[place] for place in sorted(places)):
        ids, mask = padded([np.pad(test.prompts[i], (virtual, 0), constant_values=1) for i in indices], PAD, left=True)
        inputs = {"input_ids": ids, "attention_mask": mask}
        batches.append(Batch(inputs, torch.zeros(len(indices), dtype=torch.int64), ids.numel()))
    return batches


def _longest(request: EstimateRequest, model: PreTrainedModel) -> Shapes:
    """Rows of `max_length` tokens, all with targets; one row of a batch is shorter, as in most batches."""
    training = request.training
    length = training.max_length
    check_length(length, request.method.virtual_tokens, model, None)
    facts = FACTS[request.task]
    two_texts = facts.encoder_decoder or facts.sequences > 1
    whole = 2 * length if two_texts else length
    masked = request.task not in DECODERS or masks_padding(model, request.method)

    def batch(rows: int, masked: bool = True) -> Batch:
        rows = 2 * rows if facts.prefers else rows
        ids = torch.zeros((rows, length), dtype=torch.int64)
        mask = torch.ones_like(ids)
        if rows > 1:
            mask[0, -1] = 0
        inputs = {"input_ids": ids} | ({"attention_mask": mask} if masked else {})
        if facts.in_batch:
            inputs |= {"query_ids": ids, "query_mask": mask}
            return Batch(inputs, torch.arange(2 * rows), 2 * rows * length)
        if facts.unit == "item":
            return Batch(inputs, torch.zeros(rows, dtype=torch.int64), rows * length)
        labels = torch.zeros((rows, length), dtype=torch.int64)
        objective = Objective(training.preference_loss, training.beta) if facts.prefers else None
        return Batch(inputs, labels, rows * length, learnt(labels), objective=objective)

    widest = batch(training.per_device_train_batch_size, masked or training.padding_free)
    at_once = training.per_device_eval_batch_size
    if request.task in LANGUAGE:
        at_once = min(at_once, most_rows(model, facts.sequences * length))
    return Shapes(
        first=None,
        heaviest=[without_padding(widest) if training.padding_free else widest],
        evaluated=batch(at_once, masked),
        prompts=[batch(training.per_device_eval_batch_size)] if facts.generates else [],
        lengths=Lengths(source="max_length", rows=0, longest=whole, mean=whole),
        padded=[],
    )


def _job(request: EstimateRequest, dataset: Path) -> TrainJob:
    """The job fields that encoding reads."""
    spec = RunSpec(
        base_model="estimated",
        dataset="estimated",
        task=request.task,
        method=request.method,
        training=request.training,
    )
    return TrainJob(
        run_id=0,
        epoch=0,
        spec=spec,
        model_location=request.location,
        dataset_file=str(dataset),
        dataset_format=request.dataset_format,
        labels=[str(i) for i in range(request.labels)],
        output="",
        claimed_at=0.0,
    )


class _Silent:
    """Discards log lines about truncation: the run itself reports them."""

    def log(self, message: str) -> None:
        """Discard; the run reports it."""

    def raise_if_stopped(self) -> None:
        """Never: an estimate is stopped by ending its process."""


def rows_of(batch: Batch) -> tuple[int, int]:
    """Rows and padded length of a batch."""
    ids = batch.padding if batch.padding is not None else batch.inputs["input_ids"]
    return int(ids.shape[0]), int(ids.shape[1])
