"""Preference tuning: a decoder learns which of two answers to a prompt is the better one.

The losses are in `worker.engine.tasks.preference_losses`.

log π(y)   = Σ_t log p(y_t | prompt, y_<t)        over an answer's tokens and its end-of-text token
    mean(y)    = log π(y) / |y|
    DPO        = −log σ(β · [(log π(chosen) − log π₀(chosen)) − (log π(rejected) − log π₀(rejected))])
    ORPO       = −mean(chosen) − β · log σ(log odds(chosen) − log odds(rejected))
    log odds(y) = mean(y) − log(1 − exp mean(y))

DPO: Rafailov et al. 2023, arXiv 2305.18290, equation 7; π₀ is the model before training, evaluated once on every pair.
ORPO: Hong et al. 2024, arXiv 2403.07691, equations 3, 6 and 7, which needs no π₀. Both as in TRL 1.16, except that
TRL's ORPO takes the first term over prompts and answers of a batch together; here, as in the paper, it is the mean over
an answer's tokens, so that a pair's loss does not depend on its batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from app.domain.data.dataset import ChatRow, PairRow, PreferenceChatRow, PreferenceRow, Row, Split
from app.domain.messages import Message as Sentence
from app.domain.messages import _
from app.domain.runs.job import TrainJob
from app.domain.tasks import MetricName
from worker.engine.data.batches.batches import (
    IGNORED,
    Batch,
    Listener,
    Objective,
    Texts,
    in_chunks,
    learnt,
    padded,
    padded_length,
)
from worker.engine.data.lines import Line, LineWriter, warnings
from worker.engine.data.rows import unusable
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.evaluation.generation import stop_tokens
from worker.engine.tasks import causal_lm
from worker.engine.tasks.completions import check_vocabulary, most_rows
from worker.engine.tasks.token_loss import logits_at, token_losses


def rewards(objective: Objective, sums: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The reward of each of 2B answers, in which β is a factor: of DPO log π − log π₀, of ORPO the mean
    log-probability."""
    if objective.loss == "orpo":
        return objective.beta * sums / tokens
    return objective.beta * (sums if objective.reference is None else sums - objective.reference)


def pair_losses(objective: Objective, sums: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The loss of each of B pairs, from the log-probabilities of their 2B answers."""
    if objective.loss == "dpo":
        chosen, rejected = rewards(objective, sums, tokens).chunk(2)
        return -logsigmoid(chosen - rejected)
    mean = sums / tokens
    chosen, rejected = (mean - _log_of_one_less(mean)).chunk(2)
    return -mean.chunk(2)[0] - objective.beta * logsigmoid(chosen - rejected)


def _log_of_one_less(log_p: torch.Tensor) -> torch.Tensor:
    """log(1 − exp(log_p)), exact near both ends (Mächler 2012, log1mexp); a probability of 1 counts as the next lower
    one."""
    log_p = log_p.clamp(max=-torch.finfo(log_p.dtype).eps)
    near = log_p > -math.log(2)
    # each branch gets values that it can differentiate, since `where` adds the gradients of both
    high = torch.log(-torch.expm1(torch.where(near, log_p, -torch.ones_like(log_p))))
    low = torch.log1p(-torch.exp(torch.where(near, -torch.ones_like(log_p), log_p)))
    return torch.where(near, high, low)


AUTO = AutoModelForCausalLM
ARCHITECTURES = MODEL_FOR_CAUSAL_LM_MAPPING
PEFT_TYPE = "CAUSAL_LM"
CHOSEN, REJECTED = "chosen_log_probability", "rejected_log_probability"
"""Columns of the predictions: sums over an answer's tokens, in nats."""
Tokens = Sequence[NDArray[np.int32]]


def incompatibility(config: PreTrainedConfig) -> Sentence | None:
    """Rejects encoders and encoder-decoders."""
    if getattr(config, "is_encoder_decoder", False):
        return _(
            "A model of type %(type)r is an encoder-decoder. Choose a decoder such as GPT-2, Llama or Qwen.",
            type=config.model_type,
        )
    return causal_lm.incompatibility(config)


@dataclass(frozen=True)
class Preferences(Texts):
    """A split of preference pairs. `tokens` and `targets` are those of the prompts with the chosen answers."""

    rejected: Tokens
    """Input ids of each row's prompt with the rejected answer."""
    rejected_targets: Sequence[NDArray[np.int64]]
    loss: Literal["dpo", "orpo"]
    beta: float
    reference: NDArray[np.float64] | None = None
    """[N, 2] log-probabilities of the chosen and of the rejected answers before training; None before they are known,
    and with ORPO."""

    @property
    def sides(self) -> tuple[Sequence[int], ...]:
        """The prompt with each of its answers."""
        return [len(ids) for ids in self.tokens], [len(ids) for ids in self.rejected]

    def units(self, indices: Sequence[int]) -> int:
        """The loss is a mean over pairs."""
        return len(indices)

    def outputs(self, indices: Sequence[int]) -> int:
        """Tokens of both answers."""
        both = (self.targets, self.rejected_targets)
        return sum(int(np.count_nonzero(side[i] != IGNORED)) for side in both for i in indices)

    def computed(self, indices: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
        """Two sequences for each pair, all padded together."""
        lengths = [len(side[i]) for side in (self.tokens, self.rejected) for i in indices]
        if self.padding_free:
            return [(1, (length,)) for length in lengths]
        return [(len(lengths), (padded_length(max(lengths), max(self.longest)),))]

    @property
    def equal(self) -> NDArray[np.bool_]:
        """[N] whether a pair's answers are the same tokens."""
        sides = zip(self.tokens, self.targets, self.rejected, self.rejected_targets, strict=True)
        return np.array([np.array_equal(a, c) and np.array_equal(b, d) for a, b, c, d in sides], dtype=bool)

    def against(self, before: NDArray[np.float64]) -> "Preferences":
        """With the log-probabilities [2, N] of the model before training."""
        return replace(self, reference=before.T)

    def taken(self, places: Sequence[int]) -> "Preferences":
        """Some pairs, without a reference."""
        names = ("rows", "targets", "lengths", "tokens", "rejected", "rejected_targets")
        some: dict[str, Any] = {name: [getattr(self, name)[i] for i in places] for name in names}
        return replace(self, **some, reference=None)

    def first(self, outputs: int) -> "Preferences":
        """The first pairs, as many as have this many answer tokens together; at least one."""
        counts = np.cumsum([self.outputs([i]) for i in range(len(self))])
        return self.taken(range(max(1, int(np.searchsorted(counts, outputs, side="right")))))


def encode(
    rows: Sequence[Row],
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    job: TrainJob,
    sink: Listener,
) -> Preferences:
    """Tokens and shifted targets of every prompt with its chosen and with its rejected answer. A prompt that is too
    long is truncated at its start, equally for both answers; then each answer at its end."""
    training = job.spec.training
    stops = stop_tokens(model.generation_config, tokenizer)
    writer = LineWriter(tokenizer, stops, completion_only=True, last_turn_only=True)
    complete = [pair for chunk in in_chunks(rows, sink.raise_if_stopped) for pair in lines_of(chunk, writer)]
    cut = [cut_alike(pair, training.max_length) for pair in complete]
    _report(complete, cut, split, training.max_length, sink)
    tokens: tuple[list[NDArray[np.int32]], list[NDArray[np.int32]]] = ([], [])
    targets: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for row, pair in zip(rows, cut, strict=True):
        for side, line in enumerate(pair):
            ids = np.asarray(line.ids, dtype=np.int32)
            is_target = line.targets[1:]
            if not any(is_target):
                raise unusable(row, _("has no token to predict"), _("Raise max_length, or leave the row out"))
            tokens[side].append(ids[:-1])
            targets[side].append(np.where(is_target, ids[1:], IGNORED).astype(np.int64))
        check_vocabulary([row, row], [np.asarray(line.ids) for line in pair], model)
    longest = [max(len(line.ids) for line in pair) - 1 for pair in complete]
    return Preferences(
        rows=rows,
        targets=targets[0],
        lengths=[len(chosen) + len(rejected) for chosen, rejected in zip(*tokens, strict=True)],
        tokens=tokens[0],
        truncated=[length for length in longest if length >= training.max_length],
        masked=causal_lm.masks_padding(model, job.spec.method),
        rejected=tokens[1],
        rejected_targets=targets[1],
        loss=training.preference_loss,
        beta=training.beta,
    )


def lines_of(rows: Sequence[Row], writer: LineWriter) -> list[tuple[Line, Line]]:
    """The untruncated lines of each prompt with its chosen and with its rejected answer. Raises `RunFailed` for a row
    without a pair of different answers."""
    lines = writer.lines([side for row in rows for side in _sides(row)])
    return list(zip(lines[::2], lines[1::2], strict=True))


def _sides(row: Row) -> tuple[Row, Row]:
    if not isinstance(row, PreferenceRow | PreferenceChatRow) or not all(
        answer and answer.strip() for answer in row.answers
    ):
        raise unusable(row, _("has no chosen or no rejected answer"), _("Leave it out"))
    if row.answers[0] == row.answers[1]:
        raise unusable(row, _("has equal answers, so neither is preferred"), _("Leave it out"))
    if isinstance(row, PreferenceRow):
        chosen, rejected = (PairRow(row.item, row.split, row.prompt, answer) for answer in row.answers)
        return chosen, rejected
    better, worse = (ChatRow(row.item, row.split, [*row.messages, turn], row.tools) for turn in row.turns)
    return better, worse


def cut_alike(pair: tuple[Line, Line], limit: int) -> tuple[Line, Line]:
    """Both answers truncated to `limit` tokens, after the same part of the prompt."""
    drop = max(line.excess(limit) for line in pair)
    return pair[0].cut(limit, drop), pair[1].cut(limit, drop)


def _report(
    complete: Sequence[tuple[Line, Line]], cut: Sequence[tuple[Line, Line]], split: Split, limit: int, sink: Listener
) -> None:
    """Log how many pairs were truncated, and in how many both answers are the same tokens."""
    long = sum(any(len(line.ids) > limit for line in pair) for pair in complete)
    if long:
        sink.log(
            f"{long} of {len(complete)} pairs of the {split} split are longer than max_length {limit} and were "
            "truncated: the prompt at its start, then each answer at its end."
        )
    same = sum(chosen.ids == rejected.ids for chosen, rejected in cut)
    if same:
        beyond = same - sum(chosen.ids == rejected.ids for chosen, rejected in complete)
        sink.log(
            f"The answers of {same} of {len(complete)} pairs of the {split} split are the same tokens, of {beyond} "
            "because of the truncation. Such a pair teaches nothing, and counts ½ in accuracies."
        )
    if split == "train":
        for sentence in warnings([chosen.findings | rejected.findings for chosen, rejected in cut]):
            sink.log(sentence)


def collate(examples: Preferences, indices: Sequence[int], pad_token: int) -> Batch:
    """2B sequences, those with the chosen answers first, padded on the right to the longest; labels [2B, T] are the
    shifted targets."""
    most = max(examples.longest)
    both = (examples.tokens, examples.rejected)
    ids, mask = padded([side[i] for side in both for i in indices], pad_token, most=most)
    sides = (examples.targets, examples.rejected_targets)
    labels, _mask = padded([side[i] for side in sides for i in indices], IGNORED, most=most)
    inputs = {"input_ids": ids} | ({"attention_mask": mask} if examples.masked else {})
    before = None
    if examples.reference is not None:
        before = torch.from_numpy(examples.reference[list(indices)].T.reshape(-1)).float()
    objective = Objective(examples.loss, examples.beta, before)
    hidden = None if examples.masked else mask
    return Batch(inputs, labels, int(mask.sum()), learnt(labels), hidden, objective=objective)


def log_probabilities(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the 2B answers of a batch: the sums of their tokens' log-probabilities in nats, float32, and how many tokens
    they have."""
    assert batch.places is not None  # noqa: S101 collate gives them
    own = -token_losses(logits_at(model, batch.inputs, batch.places, batch.labels.shape[1]), batch.targets)
    # each place once, so that no order of additions is left to chance
    placed = own.new_zeros(batch.labels.shape).index_put(batch.places, own)
    return placed.sum(1), (batch.labels != IGNORED).sum(1)


def losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    assert batch.objective is not None  # noqa: S101 collate gives it
    return pair_losses(batch.objective, *log_probabilities(model, batch))


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return losses(model, batch).sum()


def evaluate(model: nn.Module, examples: Preferences, evaluator: Evaluator, *, generate: bool) -> Predictions:
    """Which answer of each pair has the higher reward."""
    return judged(examples, answer_log_probabilities(model, examples, evaluator), evaluator)


def answer_log_probabilities(model: nn.Module, examples: Preferences, evaluator: Evaluator) -> NDArray[np.float64]:
    """[2, N] log-probabilities of the chosen and of the rejected answers, in nats. Raises `RunFailed(diverged)`."""
    sums = np.empty((2, len(examples)))
    widest = max(examples.outputs([i]) for i in range(len(examples)))
    with evaluator.judging(model):
        for indices, batch in evaluator.batches(examples, most_rows(model, widest)):
            sums[:, indices] = log_probabilities(model, batch)[0].view(2, -1).cpu().numpy()
    evaluator.finite(float(sums.sum()))
    return sums


def judged(examples: Preferences, sums: NDArray[np.float64], evaluator: Evaluator) -> Predictions:
    """Metrics of a model that gives the answers these log-probabilities, [2, N]. A tie counts ½, and has no prediction.
    Without a reference of DPO the model is its own: it is the one before training, whose rewards are all ties."""
    sides = (examples.targets, examples.rejected_targets)
    tokens = np.array([[np.count_nonzero(row != IGNORED) for row in side] for side in sides], dtype=np.float64)
    before = sums if examples.reference is None else examples.reference.T
    objective = Objective(examples.loss, examples.beta, torch.from_numpy(before.reshape(-1)))
    flat = torch.from_numpy(sums.reshape(-1)), torch.from_numpy(tokens.reshape(-1))
    reward = rewards(objective, *flat).view(2, -1).numpy()
    compared: dict[MetricName, NDArray[np.float64]] = {
        "preference_accuracy": reward,
        "likelihood_accuracy": sums,
        "mean_likelihood_accuracy": sums / tokens,
    }
    differ = ~examples.equal  # kernels may compute equal rows of a batch with different last digits
    per_item = {name: (1 + differ * np.sign(values[0] - values[1])) / 2 for name, values in compared.items()}
    metrics: dict[MetricName, float] = {name: float(right.mean()) for name, right in per_item.items()}
    metrics["reward_margin"] = float((reward[0] - reward[1]).mean())
    pairs = [row.answers for row in examples.rows if isinstance(row, PreferenceRow | PreferenceChatRow)]
    scores = per_item["preference_accuracy"].tolist()
    answers = [{1.0: better, 0.0: worse}.get(score, "") for (better, worse), score in zip(pairs, scores, strict=True)]
    columns = {"prediction": answers, CHOSEN: sums[0].tolist(), REJECTED: sums[1].tolist()}
    return Predictions(evaluator.finite(float(pair_losses(objective, *flat).mean())), metrics, per_item, columns)
