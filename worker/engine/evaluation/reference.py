"""What preference tuning needs of the model before training: its log-probabilities, and its most probable tokens.

Both are computed once, before a method is applied, and kept as numbers; so no method keeps a second copy of the
weights, and none has to be undone (an adapter that starts from a changed base, such as PiSSA's, could not be).

    KL(q ‖ p) = Σ_k q_k · log(q_k / p_k)    q: trained, p: base model, after a prompt and the first tokens of an answer
                                            k: the base model's 64 most probable tokens, and all others as one

Merging the others can only lower it: it is a lower bound of the divergence over the whole vocabulary. The mean is over
the tokens of both answers of the first test pairs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.domain.data.dataset import Split
from app.domain.runs.status import Phase
from worker.engine.data.batches.batches import Batch, Examples
from worker.engine.evaluation.base_evaluations import BaseEvaluations
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.loop.progress import Instruments
from worker.engine.ranks.team import Team
from worker.engine.tasks.completions import most_rows
from worker.engine.tasks.preference import CHOSEN, REJECTED, Preferences
from worker.engine.tasks.token_loss import PARTS, logits_at

MOST_TOKENS = 1024
"""Answer tokens on which the divergence is measured; at least those of one pair."""
KEPT = 64
"""Tokens of the base model's next-token distribution that are kept apart."""


class Kept(NamedTuple):
    """The base model's distributions at the N targets of a batch, on the CPU."""

    tokens: torch.Tensor
    """[N, K] ids."""
    logs: torch.Tensor
    """[N, K + 1] log-probabilities of these, and of all others together."""


class Reference:
    """The model before training, as far as a task needs it after it; nothing for most tasks."""

    def __init__(
        self, evaluations: BaseEvaluations, evaluator: Evaluator, instruments: Instruments, team: Team
    ) -> None:
        self._evaluations, self._evaluator, self._instruments, self._team = evaluations, evaluator, instruments, team
        self._measured: Preferences | None = None
        self._kept: list[Kept] = []

    def compared(
        self, splits: Mapping[Split, Examples], model: nn.Module, tested: Predictions | None
    ) -> dict[Split, Examples]:
        """The splits, with what the loss and the metrics need of the base model. `tested`: its predictions on the test
        split, which trials lack. With ORPO, training needs nothing."""
        against: dict[Split, Examples] = dict(splits)
        for split, examples in splits.items():
            if not isinstance(examples, Preferences) or not len(examples):
                continue
            if split == "test":
                self._measured = examples.first(MOST_TOKENS)
                self._kept = [self._keep(model, batch) for batch in self._batches(model)]
            if examples.loss == "dpo":
                self._instruments.enter(Phase.BASELINE)
                known = tested.columns if split == "test" and tested else None
                sums = np.array([known[CHOSEN], known[REJECTED]]) if known else self._log_probabilities(examples)
                against[split] = examples.against(sums)
        return against

    def _log_probabilities(self, examples: Preferences) -> NDArray[np.float64]:
        """[2, N] of a split that every rank has, each of which computes its share of the pairs."""
        sums, places = np.zeros((2, len(examples))), range(self._team.rank, len(examples), self._team.world)
        if places:
            own = examples if self._team.world == 1 else examples.taken(places)
            sums[:, places] = self._evaluations.log_probabilities(own)
        together: NDArray[np.float64] = self._team.sum(torch.from_numpy(sums)).numpy()
        return together

    def measured(self, model: nn.Module, predictions: Predictions) -> Predictions:
        """The predictions of the trained model, with its divergence from the base model."""
        if self._measured is None:
            return predictions
        total, count = 0.0, 0
        for batch, kept in zip(self._batches(model), self._kept, strict=True):
            own = _merged(_logits(model, batch), kept.tokens)
            divergence = torch.where(own.isinf(), 0.0, own.exp() * (own - kept.logs))  # 0 · log 0 is 0
            total, count = total + float(divergence.double().sum()), count + len(own)
        return replace(predictions, metrics=predictions.metrics | {"kl": total / count})

    def _batches(self, model: nn.Module) -> Iterator[Batch]:
        assert self._measured is not None  # noqa: S101 there are test pairs
        widest = max(self._measured.outputs([i]) for i in range(len(self._measured)))
        with self._evaluator.judging(model):
            for _indices, batch in self._evaluator.batches(self._measured, most_rows(model, widest)):
                yield batch

    def _keep(self, model: nn.Module, batch: Batch) -> Kept:
        logits = _logits(model, batch)
        tokens = torch.cat([part.topk(min(KEPT, part.shape[1] - 1)).indices for part in _parts(logits)])
        return Kept(tokens.cpu(), _merged(logits, tokens))


def _logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    assert batch.places is not None  # noqa: S101 collate gives them
    return logits_at(model, batch.inputs, batch.places, batch.labels.shape[1])


def _merged(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """[N, K + 1] log-probabilities of K tokens at each position, and of all others together: float32, on the CPU."""
    found = []
    for part, chosen in zip(_parts(logits), _parts(tokens.to(logits.device), logits), strict=True):
        logs = part.float().log_softmax(1)
        others = logs.scatter(1, chosen, float("-inf")).logsumexp(1, keepdim=True)
        found.append(torch.cat([logs.gather(1, chosen), others], 1).cpu())
    return torch.cat(found)


def _parts(values: torch.Tensor, like: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    """Some rows at a time, so that float32 values of the whole vocabulary, four of each, exist for few of them."""
    sized = values if like is None else like
    rows = max(1, PARTS.get(sized.device.type, PARTS["cuda"]) // (4 * sized.shape[1]))
    parts: tuple[torch.Tensor, ...] = values.split(rows)  # type: ignore[no-untyped-call]
    return parts
