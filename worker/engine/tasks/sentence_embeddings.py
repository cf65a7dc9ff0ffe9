"""Sentence embeddings for retrieval: one encoder for queries and passages, without a new head.

    e(x) [H]    = mean over x's tokens of the last hidden state, divided by its length (L2 norm)
    s_ij        = 20 · e(query_i)ᵀ e(passage_j)                      cosine similarity, for the rows i, j of a batch
    loss_i      = −log softmax_j(s_ij)[i]                            the other rows' passages are the negatives

This is MultipleNegativesRankingLoss of sentence-transformers (Henderson et al. 2017, arXiv 1705.00652) with its default
scale, but for one thing: of rows with the same passage, or the same query, one is no negative of the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING

from app.domain.data.dataset import QueryRow, Row, Split
from app.domain.messages import Message, _
from app.domain.runs.job import TrainJob
from worker.engine.baselines.retrieval import Corpus, scores
from worker.engine.data.batches.batches import Batch, Listener, Texts, in_chunks, padded
from worker.engine.data.rows import unusable
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.tasks.completions import check_vocabulary
from worker.engine.tasks.sequence_classification import token_ids

SCALE = 20.0
"""Of the cosine similarities: the inverse of a temperature of 0.05."""
MOST_SIMILARITIES = 2**20
"""Float32 elements that an evaluation has at a time."""


class AUTO:
    """transformers' `AutoModel`, without the pooler: nothing reads its output, so it could not learn."""

    @staticmethod
    def from_pretrained(*places: Any, **options: Any) -> Any:
        """A model, or with `output_loading_info` the model and what was loaded."""
        loaded: Any = AutoModel.from_pretrained(*places, **options)
        if not isinstance(loaded, tuple):
            return _without_pooler(loaded)
        model, report = loaded
        kept = {what: [key for key in keys if not _of_pooler(key)] for what, keys in report.items() if "keys" in what}
        return _without_pooler(model), {**report, **kept}

    @staticmethod
    def from_config(config: PreTrainedConfig, **options: Any) -> PreTrainedModel:
        """A model with random weights."""
        model: Any = AutoModel.from_config(config, **options)  # type: ignore[no-untyped-call]
        return _without_pooler(model)


def _without_pooler(model: Any) -> PreTrainedModel:
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = None
    found: PreTrainedModel = model
    return found


def _of_pooler(key: Any) -> bool:
    name = key[0] if isinstance(key, tuple) else key  # one of another shape comes with its shapes
    return "pooler" in str(name).split(".")


ARCHITECTURES = MODEL_MAPPING
PEFT_TYPE = "FEATURE_EXTRACTION"


def incompatibility(config: PreTrainedConfig) -> Message | None:
    """Rejects all but encoders of texts: the models that transformers has for masked language modelling."""
    is_encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if not is_encoder or config.is_encoder_decoder:
        return _(
            "A model of type %(type)r is not an encoder of texts. Choose a model such as BERT, MPNet or XLM-RoBERTa.",
            type=config.model_type,
        )
    return None


@dataclass(frozen=True)
class Pairs(Texts):
    """A split of queries and passages. `tokens` are those of the passages; targets are [1], the passage's number."""

    queries: Sequence[NDArray[np.int32]]
    """Input ids of each row's query."""
    query_numbers: NDArray[np.int64]
    """[N] equal for rows with the same query."""
    corpus: Corpus

    @property
    def items(self) -> Sequence[Row]:
        """The first row of each distinct query."""
        return [self.rows[place] for place in self.corpus.items]

    @property
    def sides(self) -> tuple[Sequence[int], ...]:
        """Passages and queries are padded apart, so a long query and a long passage of two rows both count."""
        return [len(ids) for ids in self.tokens], [len(ids) for ids in self.queries]


def encode(
    rows: Sequence[Row],
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    job: TrainJob,
    sink: Listener,
) -> Pairs:
    """Tokens of queries and passages, each truncated at its end to `max_length` including special tokens."""
    limit = job.spec.training.max_length
    pairs = [_checked(row) for row in rows]
    long: list[int] = []
    tokens: tuple[list[NDArray[np.int32]], list[NDArray[np.int32]]] = ([], [])
    for chunk in in_chunks(pairs, sink.raise_if_stopped):
        whole = [0] * len(chunk)
        for side, texts in zip(tokens, ([r.query for r in chunk], [r.passage for r in chunk]), strict=True):
            kept = token_ids(tokenizer, texts, truncation=True, max_length=limit)
            lengths = [len(ids) if len(ids) < limit else len(token_ids(tokenizer, [text])[0])
                       for ids, text in zip(kept, texts, strict=True)]  # fmt: skip
            whole = [max(one, other) for one, other in zip(whole, lengths, strict=True)]
            side.extend(np.asarray(ids, dtype=np.int32) for ids in kept)
        long += [length for length in whole if length > limit]
    if long:
        sink.log(
            f"{len(long)} of {len(rows)} rows of the {split} split have a query or a passage that is longer than "
            f"max_length {limit}, which was truncated at its end; the longest has {max(long)} tokens."
        )
    queries, passages = tokens
    for side in tokens:
        check_vocabulary(rows, side, model)
        for row, ids in zip(rows, side, strict=True):
            if not len(ids):
                raise unusable(row, _("has a query or a passage without a token"), _("Leave it out"))
    corpus, numbers = Corpus(pairs), {text: n for n, text in enumerate(dict.fromkeys(row.query for row in pairs))}
    return Pairs(
        rows=rows,
        targets=list(corpus.passage_of[:, None]),
        lengths=[len(query) + len(passage) for query, passage in zip(queries, passages, strict=True)],
        tokens=passages,
        truncated=long,
        queries=queries,
        query_numbers=np.array([numbers[row.query] for row in pairs], dtype=np.int64),
        corpus=corpus,
    )


def _checked(row: Row) -> QueryRow:
    if not isinstance(row, QueryRow) or not (row.query or "").strip() or not (row.passage or "").strip():
        raise unusable(row, _("has no query or no passage"), _("Leave it out"))
    return row


def collate(examples: Pairs, indices: Sequence[int], pad_token: int) -> Batch:
    """Queries and passages, each padded on the right; labels are [2B], the numbers of the passages and of the
    queries."""
    most, most_of_queries = examples.longest
    ids, mask = padded([examples.tokens[i] for i in indices], pad_token, most=most)
    query_ids, query_mask = padded([examples.queries[i] for i in indices], pad_token, most=most_of_queries)
    inputs = {"input_ids": ids, "attention_mask": mask, "query_ids": query_ids, "query_mask": query_mask}
    rows = list(indices)
    labels = np.concatenate([examples.corpus.passage_of[rows], examples.query_numbers[rows]])
    return Batch(inputs, torch.from_numpy(labels), int(mask.sum() + query_mask.sum()))


def losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    queries, passages = _sides(model, batch)
    with torch.autocast(queries.device.type, enabled=False):  # similarities are in float32
        similarities = SCALE * (queries @ passages.T)
    numbers = batch.labels.view(2, -1)
    alike = (numbers[:, :, None] == numbers[:, None, :]).any(0)
    own = torch.arange(len(alike), device=alike.device)
    negatives_only = similarities.masked_fill(alike & (own[:, None] != own), float("-inf"))
    return functional.cross_entropy(negatives_only, own, reduction="none")


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return losses(model, batch).sum()


def _sides(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of the queries and of the passages, float32 [B, H] each."""
    inputs = batch.inputs
    queries = embeddings(model, inputs["query_ids"], inputs.get("query_mask"))
    return queries, embeddings(model, inputs["input_ids"], inputs.get("attention_mask"))


def embeddings(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean last hidden state of each row's tokens, with length 1: float32 [B, H] from [B, T] twice."""
    mask = torch.ones_like(ids) if mask is None else mask
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -ids.shape[1] :]  # without virtual tokens
    counted = mask.unsqueeze(-1).float()
    return functional.normalize((hidden.float() * counted).sum(1) / counted.sum(1), dim=1)


def evaluate(model: nn.Module, examples: Pairs, evaluator: Evaluator, *, generate: bool) -> Predictions:
    """Search each distinct query in all distinct passages of the split: the rank of its first right one, and the most
    similar one. The loss is that of training with all these passages as the batch, averaged over the rows, so it does
    not depend on batches."""
    queries, passages = torch.empty(0), torch.empty(0)
    with evaluator.judging(model):
        for indices, batch in evaluator.batches(examples):
            sides = [side.cpu() for side in _sides(model, batch)]
            if not len(queries):
                queries, passages = (side.new_empty(len(examples), side.shape[1]) for side in sides)
            queries[indices], passages[indices] = sides
    corpus, total = examples.corpus, 0.0
    ranks, first = np.empty(len(examples), dtype=np.int64), np.empty(len(examples), dtype=np.int64)
    for rows, similarities in _searched(queries, passages[torch.from_numpy(corpus.first_row)], evaluator):
        own = torch.from_numpy(corpus.passage_of[rows])
        ranks[rows] = corpus.ranks(similarities.numpy(), rows)
        first[rows] = similarities.argmax(1).numpy()
        for place, row in enumerate(rows):
            others = corpus.right[row][corpus.right[row] != corpus.passage_of[row]]
            similarities[place, torch.from_numpy(others)] = float("-inf")
        total += functional.cross_entropy(SCALE * similarities, own, reduction="sum").item()
    ranks, first = ranks[corpus.items], first[corpus.items]
    per_item = scores(ranks)
    return Predictions(
        loss=evaluator.finite(total / len(examples)),
        metrics={name: float(values.mean()) for name, values in per_item.items()},
        per_item=per_item,
        columns={"prediction": [corpus.passages[place] for place in first.tolist()], "rank": ranks.tolist()},
    )


def _searched(
    queries: torch.Tensor, passages: torch.Tensor, evaluator: Evaluator
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Some rows at a time, with their queries' similarities to all passages, [n, C]."""
    at_once = max(1, MOST_SIMILARITIES // len(passages))
    for start in range(0, len(queries), at_once):
        evaluator.between()
        yield list(range(start, min(start + at_once, len(queries)))), queries[start : start + at_once] @ passages.T
