"""The resource estimate of a run: its train step on fake tensors, and the memory ledger of that step.

    configuration → model on meta → method applied → fake tensors → two steps → ledger, FLOPs

No weights are loaded and nothing is trained; forward and backward pass, optimizer and loss are those of the run itself.
AdamW's moments do not exist before the first step's passes are over. That step is therefore recorded without them, and
only if its batch is heavier than every later one; otherwise a later step is recorded. This takes seconds at most,
whatever the size of the model.

prefill   prompts [B, P] at once: keys and values [B, heads, P, D] of every layer stay
    decode    the last of N tokens: each layer's keys and values are copied into [B, heads, P + N, D], one layer after
              another, while those of the other layers exist

The last generated token needs the most. In an encoder-decoder, the keys and values of the encoder's output stay the
same while those of the decoder grow.

The work of a batch is a sum of what its padded lengths T allow for, each with a coefficient of its own:

    every text           1 (what does not depend on the rows, such as a gradient of all embeddings), and for each row
    one text             T                   T² (attention)
    query and passage    T₁ + T₂             T₁² + T₂²                one encoder reads both, apart
    encoder-decoder      T₁          T₂      T₁² + T₁·T₂ + T₂²        the decoder also attends to the prompt
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from app.domain.methods import FullSpec
from app.domain.resources.estimate import EstimateRequest, MapCell, MapRequest, MemoryMap, ResourceEstimate
from app.domain.resources.ledger import Ledger, Moment
from app.domain.resources.work import Work
from app.domain.tasks import TASKS as FACTS
from app.domain.tasks import Task
from worker.engine.data.batches.batches import Batch, Places
from worker.engine.data.batches.padding_free import RowsApart
from worker.engine.estimation.fake import Answers, Operations, as_on_cuda, no_rows_side_by_side, replace_tensors
from worker.engine.estimation.shapes import Shapes, rows_of, shapes
from worker.engine.estimation.unloaded import Unloaded, resting_blocks, unloaded
from worker.engine.loop.step import clip, forward_and_back, optimizer_of
from worker.engine.memory.ledger import Journal, rounded_on_cuda, rounded_on_host
from worker.engine.memory.measured import tensor_bytes
from worker.engine.memory.sharing import Sharing
from worker.engine.methods import MECHANISMS
from worker.engine.models.attention import use_cpu_kernels
from worker.engine.saving.artifacts import file_bytes
from worker.engine.tasks import TASKS


def memory_map(request: MapRequest) -> MemoryMap:
    """Estimate each method at each length and batch size. Raises `RunFailed` with a sentence.

    At one length the peak is nearly linear in the batch size, but the pass in which it occurs changes; so each is
    computed.
    """
    began = time.perf_counter()
    cells = []
    for place, method in enumerate(request.methods):
        for length in request.lengths:
            built = unloaded(request.cell(method, length, 1))
            steps = fake_steps(built, request.cell(method, length, 1))
            for rows in request.batch_sizes:
                batch = shapes(request.cell(method, length, rows), None, built.base).heaviest[0]
                cells.append(MapCell(method=place, length=length, rows=rows, ledger=steps.step(batch)[0]))
    return MemoryMap(cells=cells, seconds=time.perf_counter() - began)


Follow = Callable[[], AbstractContextManager[Journal]]


def writing_peak(model: Any, follow: Follow, ids: torch.Tensor, mask: torch.Tensor | None, new: int) -> int:
    """Peak bytes of reading prompts [B, P] and generating `new` tokens, weights included.

    `model` is the one with the language-model head, on fake tensors, in evaluation mode; call it inside their mode.
    """
    if model.config.is_encoder_decoder:
        return _text_to_text(model, follow, ids, mask, new)
    prompt = ids.shape[1]
    last = {"logits_to_keep": 1} if model._supports_logits_to_keep() else {}
    with follow() as journal:
        _read = model(input_ids=ids, attention_mask=mask, use_cache=True, **last).logits[:, -1].float()
    reading = _peak(journal)
    if new == 1:
        return reading
    before = model(input_ids=_longer(ids, prompt + new - 1), use_cache=True, **last).past_key_values
    longer_mask = None if mask is None else _longer(mask, prompt + new)
    writing = _last_token(model, follow, before, {"input_ids": ids[:, :1], "attention_mask": longer_mask, **last})
    return max(reading, writing)


def _text_to_text(model: Any, follow: Follow, ids: torch.Tensor, mask: torch.Tensor | None, new: int) -> int:
    with follow() as journal:
        read = model.get_encoder()(input_ids=ids, attention_mask=mask)
    reading = _peak(journal)
    inputs = {"encoder_outputs": read, "attention_mask": mask}
    before = model(**inputs, decoder_input_ids=_longer(ids, max(1, new - 1)), use_cache=True).past_key_values
    writing = _last_token(model, follow, before, {**inputs, "decoder_input_ids": ids[:, :1]})
    return max(reading, writing + _bytes(read[0]))


def _last_token(model: Any, follow: Follow, before: Any, inputs: dict[str, Any]) -> int:
    """`before` are the keys and values so far, which the model replaces."""
    old = {tensor.untyped_storage()._cdata: tensor for tensor in _tensors(before)}
    with follow() as journal:
        _written = model(**inputs, past_key_values=before, use_cache=True).logits[:, -1].float()
    shared = sum(_bytes(t) for t in _tensors(before) if t.untyped_storage()._cdata in old)
    copied = max((_bytes(t) for t in old.values()), default=0)
    return _peak(journal) + shared + copied


def _peak(journal: Journal) -> int:
    return journal.ledger("estimated", None, rows=0, length=0).total


def _tensors(cache: Any) -> Iterator[torch.Tensor]:
    """Keys and values of every layer of transformers' cache, or of the two caches of an encoder-decoder."""
    names = ("self_attention_cache", "cross_attention_cache")
    for part in [getattr(cache, name) for name in names if hasattr(cache, name)] or [cache]:
        for layer in part.layers:
            yield from (t for t in (layer.keys, layer.values) if isinstance(t, torch.Tensor))


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _longer(tensor: torch.Tensor, length: int) -> torch.Tensor:
    return tensor.new_ones((tensor.shape[0], length))


Sides = tuple[int, ...]
"""The padded length of each side of a batch, as `Examples.computed` has it."""


def sides_of(batch: Batch, task: Task) -> Sides:
    _rows, first = rows_of(batch)
    if "query_ids" in batch.inputs:
        return first, int(batch.inputs["query_ids"].shape[1])
    return (first, int(batch.labels.shape[1])) if FACTS[task].encoder_decoder else (first,)


def shorter(sides: Sides, task: Task) -> list[Sides]:
    """Lengths at which a batch is measured, beside its own, so that every coefficient follows."""
    half, quarter = (tuple(max(1, length // part) for length in sides) for part in (2, 4))
    return [half, quarter, (half[0], *sides[1:])] if FACTS[task].encoder_decoder else [half, quarter]


def work_of_batches(
    padded: Sequence[tuple[int, Sides]], passes: int, rows: int, measured: Mapping[Sides, Work], task: Task
) -> Work:
    """The work of batches, given by rows and lengths, in so many passes; `measured` has that of a batch of `rows`, by
    lengths."""
    known = np.array([[1, *(rows * extent for extent in _extents(sides, task))] for sides in measured], dtype=float)
    coefficients = np.linalg.lstsq(known, np.array(list(measured.values())), rcond=None)[0]
    extents = sum((count * np.array(_extents(sides, task), dtype=float) for count, sides in padded), np.zeros(1))
    return Work(*(float(value) for value in np.array([passes, *extents]) @ coefficients))


def _extents(sides: Sides, task: Task) -> list[int]:
    if FACTS[task].encoder_decoder:
        prompt, completion = sides
        return [prompt, completion, prompt**2 + prompt * completion + completion**2]
    return [sum(sides), sum(length**2 for length in sides)]


_SECOND = ("query_ids", "query_mask")
"""Inputs of the second side of a batch."""


def estimate_run(request: EstimateRequest, dataset: Path | None) -> ResourceEstimate:
    """Estimate one run, on several devices the first of them; `dataset` is a local Parquet file of its rows. Raises
    `RunFailed` with a sentence."""
    began = time.perf_counter()
    built = unloaded(request)
    batches = shapes(request, dataset, built.base)
    steps = fake_steps(built, request)
    first = [steps.step(batches.first, first=True)] if batches.first else []
    passes = first + [steps.step(batch) for batch in batches.heaviest]
    ledger, of_step = max(passes, key=lambda pair: pair[0].total)
    evaluation = steps.evaluation(batches.evaluated)
    writing = max((steps.writing(prompts) for prompts in batches.prompts), default=0)
    train = _train_work(steps, batches, passes[0][1]) if batches.padded else None
    optimizer = tensor_bytes(t for state in steps.optimizer.state.values() for t in state.values())
    reference = _reference_work(request, batches) if batches.reference else None
    return ResourceEstimate(
        ledger=ledger,
        phases={
            "load": built.loaded_bytes,
            "baseline": max(0, evaluation - optimizer, writing),
            "train": ledger.total,
            # of a model that was shared, when training is over
            "evaluate": max(evaluation - (optimizer if steps.sharing else 0), writing),
        },
        lengths=batches.lengths,
        step_flops=round(of_step.flops),
        train_flops=round(train.flops) if train else 0,
        train_work=train,
        reference_flops=round(reference.flops) if reference else 0,
        reference_work=reference,
        steps=batches.steps,
        trainable=request.method.trainable(built.facts),
        total=built.facts.total,
        width=built.facts.hidden_size,
        file_bytes=steps.saved_bytes(),
        seconds=time.perf_counter() - began,
    )


def _train_work(steps: "_Steps", batches: Shapes, of_first: Work) -> Work:
    """Work of the whole training on one of its devices; `of_first` is that of the passes of `trained`'s first batch."""
    epoch = steps.work_of(batches, of_first)
    return epoch * (batches.epochs / steps.request.training.devices) + steps.of_update * batches.steps


def _reference_work(request: EstimateRequest, batches: Shapes) -> Work:
    """Work of the base model's pass over pairs, without a method, on one of its devices."""
    plain = request.model_copy(update={"method": FullSpec()})
    steps, batch, task = fake_steps(unloaded(plain), plain), batches.evaluated, request.task
    sides = sides_of(batch, task)
    measured = {lengths: steps.judged(batch, lengths) for lengths in (sides, *shorter(sides, task))}
    passes, rows = len(batches.reference), rows_of(batch)[0]
    return work_of_batches(batches.reference, passes, rows, measured, task) * (1 / request.training.devices)


@dataclass
class _Steps:
    """Executes passes over fake batches."""

    request: EstimateRequest
    model: nn.Module
    optimizer: torch.optim.Optimizer
    companion: Any
    mode: FakeTensorMode
    rounded: Callable[[int], int]
    stored: list[nn.Module]
    """Blocks whose activations are computed once and read back: no step computes them."""
    apart: RowsApart
    sharing: Sharing | None
    """Among several devices; None if each has the whole model."""
    moment: Moment = "data"
    settle: Callable[[], None] | None = None
    of_update: Work = Work()  # noqa: RUF009 immutable
    """Work of the optimizer, in the last step."""

    def step(self, real: Batch, first: bool = False) -> tuple[Ledger, Work]:
        """An optimizer step over a batch: its ledger and the work of its passes, without that of the optimizer.
        `first`: the optimizer has no state yet, and allocates it when the passes are over.

        With accumulation the batch is executed twice: the second time gradients already exist.
        """
        with self._computing():
            if not self.optimizer.state and not first:
                self._at(real, shorter(sides_of(real, self.request.task), self.request.task)[0])
                self._update()
            with self._followed(self.optimizer) as journal:
                batch = self._fake(real)
                with Operations(self.stored) as operations:
                    self._passes(batch)
                if self.request.training.gradient_accumulation_steps > self.request.training.devices:
                    self._passes(batch)
                with Operations() as update:
                    self._update()
            self.of_update = update.work
            return journal.ledger("estimated", None, *rows_of(real)), operations.work

    def evaluation(self, real: Batch) -> int:
        """The peak of an evaluation batch, with the optimizer state in memory."""
        batch, task = self._fake(real), TASKS[self.request.task]
        with self._evaluating(), self._followed(self.optimizer) as journal:
            task.loss(self.model, batch)
        return journal.ledger("estimated", None, *rows_of(real)).total

    def judged(self, real: Batch, sides: Sides) -> Work:
        """The work of an evaluation batch whose rows have these lengths."""
        batch = self._fake(replace(real, lengths=None), sides=sides)
        with self._evaluating(), Operations() as operations:
            TASKS[self.request.task].loss(self.model, batch)
        return operations.work

    def writing(self, prompts: Batch) -> int:
        """The peak of generation after prompts: before or after training, without the optimizer state."""
        batch, model = self._fake(prompts), self.model
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        ids, mask = batch.inputs["input_ids"], batch.inputs.get("attention_mask")
        nothing = torch.optim.SGD(model.parameters())
        with self._evaluating():
            return writing_peak(inner, lambda: self._followed(nothing), ids, mask, self.request.training.max_new_tokens)

    def saved_bytes(self) -> int:
        # Of the spec with its initialization: the adapter saved for PiSSA is wider than the trained one.
        method = self.request.method
        with self._computing():
            return file_bytes(MECHANISMS[method.mechanism].saved_tensors(self.model, method))

    def work_of(self, batches: Shapes, of_first: Work) -> Work:
        """The work of the passes over `padded`, from that over the first batch of `trained` and shorter rows of it."""
        first, task = batches.trained[0], self.request.task
        rows, sides = rows_of(first)[0], sides_of(first, task)
        if "pixel_values" in first.inputs:
            share = sum(count for count, _sides in batches.padded) / rows
            return Work(of_first.calls * batches.passes, of_first.bytes * share, of_first.flops * share)
        with self._computing():
            measured = {sides: of_first if first.lengths is None else self._at(first, sides)}
            measured |= {lengths: self._at(first, lengths) for lengths in shorter(sides, task)}
        self.optimizer.zero_grad(set_to_none=True)
        return work_of_batches(batches.padded, batches.passes, rows, measured, task)

    def _at(self, real: Batch, sides: Sides) -> Work:
        """Execute the passes over rows of these lengths, padded; returns their work."""
        batch = self._fake(replace(real, lengths=None), sides=sides)
        with Operations(self.stored) as operations:
            self._passes(batch)
        return operations.work

    def _passes(self, batch: Batch) -> None:
        units = max(1, batch.labels.numel())
        device, task = torch.device("cpu"), TASKS[self.request.task]
        with self.apart.of(batch):
            forward_and_back(task, self.model, batch, units, device, self.request.bf16, self._enter)

    def _update(self) -> None:
        self._enter("optimizer")
        if self.companion is not None:
            self.companion.penalty().backward()
        clip(self.optimizer, self._trainable(), max_norm=0)  # clipping scales them in place
        self.optimizer.step()
        if self.settle is not None:
            self.settle()
        self._enter("data")
        self.optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with ExitStack() as entered:
            entered.enter_context(self.mode)
            entered.enter_context(Answers())
            entered.enter_context(no_rows_side_by_side())
            if self.request.device == "cuda":
                entered.enter_context(as_on_cuda())
            yield

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        self.moment = "evaluate"
        try:
            with (
                self._computing(),
                torch.no_grad(),
                torch.autocast("cpu", torch.bfloat16, enabled=self.request.bf16),
            ):
                yield
        finally:
            self.moment = "data"
            for module in training:
                module.training = True

    @contextmanager
    def _followed(self, optimizer: torch.optim.Optimizer) -> Iterator[Journal]:
        with Journal(self.model, optimizer, lambda: self.moment, self.rounded, sharing=self.sharing) as journal:
            self.settle = journal.settle
            try:
                yield journal
            finally:
                self.settle = None

    def _trainable(self) -> Iterator[nn.Parameter]:
        return (p for p in self.model.parameters() if p.requires_grad)

    def _enter(self, moment: Moment) -> None:
        self.moment = moment

    def _fake(self, batch: Batch, sides: Sequence[int] = ()) -> Batch:
        """A fake batch of the same shapes, or with these lengths of its sides."""

        def fake(tensor: torch.Tensor, length: int | None = None, count: int | None = None) -> torch.Tensor:
            shape = [len(tensor), *(min(size, length or size) for size in tensor.shape[1:])]
            with self.mode:  # a new one, since the other may be entered already
                return torch.empty(shape if count is None else [count], dtype=tensor.dtype)

        first, last = (sides[0], sides[-1]) if sides else (None, None)
        labels = fake(batch.labels, last)
        places = None
        if batch.places is not None:
            share = labels.numel() / batch.labels.numel()
            count = max(1, round(len(batch.places.rows) * share))
            places = Places(*(fake(p, count=count) for p in batch.places))
        lengths = dict.fromkeys(batch.inputs, first) | dict.fromkeys(_SECOND, last) | {"pixel_values": None}
        inputs = {name: fake(tensor, lengths[name]) for name, tensor in batch.inputs.items()}
        return Batch(inputs, labels, batch.tokens, places, lengths=batch.lengths, objective=batch.objective)


def fake_steps(built: Unloaded, request: EstimateRequest) -> _Steps:
    """The model with fake tensors, ready for a step."""
    cuda, method = request.device == "cuda", request.method
    if not cuda:
        use_cpu_kernels(built.base)
    replace_tensors(built.model, mode := FakeTensorMode())
    built.model.train()
    resting, training = resting_blocks(built.model, built.facts), request.training
    uncached = training.packing or training.padding_free or training.devices > 1 or FACTS[request.task].sequences > 1
    stored = resting if training.cache_frozen_prefix and not uncached else []
    named = {name: p for name, p in built.model.named_parameters() if p.requires_grad}
    with mode:
        optimizer = optimizer_of(method, named, 1e-3, request.training.weight_decay)
        companion = MECHANISMS[method.mechanism].companion(built.model, method, 2)
    rounded = rounded_on_cuda if cuda else rounded_on_host
    apart = RowsApart(built.base, as_one=cuda)
    sharing = Sharing.of(built.model, built.facts, training.devices, bf16=request.bf16)
    return _Steps(request, built.model, optimizer, companion, mode, rounded, stored, apart, sharing)
