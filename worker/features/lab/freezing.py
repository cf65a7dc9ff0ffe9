"""LoRA with its base frozen, and the same with the base left trainable by mistake.

Both start from the same weights, see the same batches for `STEPS` steps of AdamW in float32, and meet the freeze audit
that every run meets (`worker.engine.evaluation.audit`). Where it would stop a run, training goes on here, to show what
the mistake costs: trainable parameters, bytes of gradients and of AdamW's moments, base tensors that changed. Last, the
base model's own weights are put back under the trained adapter, as when its file is loaded later: how many answers to
rows of the validation split become others.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from app.domain.data.dataset import LabelledRow
from app.domain.failures import RunFailed
from app.domain.methods import LoraSpec
from app.domain.tasks import DEFAULT_TASK
from app.features.lab.computations import Freezing, FreezingRequest, FreezingSide
from worker.engine.data.batches.batches import read
from worker.engine.evaluation import audit
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe
from worker.engine.models.load import Loaded, load
from worker.engine.tasks.sequence_classification import token_ids

STEPS, BATCH, MAX_LENGTH, SEED = 20, 16, 64, 0
RATE = 5e-4


def freezing(request: FreezingRequest, files: Mapping[str, Path]) -> Freezing:
    """Train twice. Raises `RunFailed` for data or a model that cannot be used."""
    splits = read(str(files["rows_file"]), "labelled", ("train", "validation"))
    train, judged = ([row for row in splits[part] if isinstance(row, LabelledRow)] for part in ("train", "validation"))
    labels = [str(label) for label in range(request.labels)]
    sides = [
        _side(load(request.location, request.revision, DEFAULT_TASK, labels, SEED), frozen, train, judged)
        for frozen in (True, False)
    ]
    return Freezing(steps=STEPS, rows=len(judged), frozen=sides[0], unfrozen=sides[1])


def _side(base: Loaded, frozen: bool, train: Sequence[LabelledRow], judged: Sequence[LabelledRow]) -> FreezingSide:
    spec, facts = LoraSpec(r=8, lora_alpha=16), describe(base.model, DEFAULT_TASK)
    expected = spec.trains(facts)
    torch.manual_seed(SEED)
    nn.Module.float(base.model)
    model: Any = MECHANISMS[spec.mechanism].apply(base.model, spec, facts)
    if not frozen:
        model.requires_grad_(True)  # the mistake
    caught = ""
    try:
        audit.check_trainable(model, expected)
    except RunFailed as error:
        caught = error.message
    declared = {tensor.name for tensor in expected}
    kept = {name: p.detach().clone() for name, p in model.named_parameters() if name not in declared}
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE)
    _train(model, optimizer, base.processor, train)
    gradients = sum(p.grad.nbytes for p in trained if p.grad is not None)
    moments = sum(v.nbytes for state in optimizer.state.values() for v in state.values() if torch.is_tensor(v))
    own = dict(model.named_parameters())
    changed = sum(not torch.equal(own[name], value) for name, value in kept.items())
    answers = _answers(model, base.processor, judged)
    with torch.no_grad():
        for name, value in kept.items():
            own[name].copy_(value)
    alone = _answers(model, base.processor, judged)
    return FreezingSide(
        expected=sum(tensor.size for tensor in expected),
        trainable=sum(p.numel() for p in trained),
        caught=str(caught),
        weight_bytes=sum(p.nbytes for p in own.values()),
        gradient_bytes=gradients,
        optimizer_bytes=moments,
        changed=changed,
        base_tensors=len(kept),
        other_answers=Counter(a != b for a, b in zip(answers, alone, strict=True))[True],
    )


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, tokenizer: Any, rows: Sequence[LabelledRow]) -> None:
    model.train()
    order = random.Random(SEED)
    for _step in range(STEPS):
        batch = order.choices(rows, k=BATCH)
        loss = functional.cross_entropy(_logits(model, tokenizer, batch), torch.tensor([row.label for row in batch]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _answers(model: nn.Module, tokenizer: Any, rows: Sequence[LabelledRow]) -> list[int]:
    model.eval()
    with torch.inference_mode():
        return [
            int(place)
            for start in range(0, len(rows), BATCH)
            for place in _logits(model, tokenizer, rows[start : start + BATCH]).argmax(dim=1)
        ]


def _logits(model: Any, tokenizer: Any, rows: Sequence[LabelledRow]) -> torch.Tensor:
    ids = token_ids(tokenizer, [row.text for row in rows], truncation=True, max_length=MAX_LENGTH)
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
    logits: torch.Tensor = model(**batch).logits
    return logits
