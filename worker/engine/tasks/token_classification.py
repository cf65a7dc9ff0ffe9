"""Token classification: a new head over the tags, read off at the first token of each word.

    words    Ada    Love lace   lives          tokens and words: a word may have several tokens
    tags     B-PER  I-PER –     O              targets [T], IGNORED where no word begins

logits [B, T, tags] = head(base(x))        loss = cross-entropy, summed over the words that the model reads
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers import AutoModelForTokenClassification, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING

from app.domain.data.dataset import Row, Split, TaggedRow
from app.domain.data.tagging import UNREAD, Hits
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _
from app.domain.runs.job import TrainJob
from app.domain.tasks import MetricName
from worker.engine.data.batches.batches import IGNORED, Batch, Listener, Texts, in_chunks, learnt, most_tokens, padded
from worker.engine.data.rows import unusable
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.tasks.completions import check_vocabulary
from worker.engine.tasks.sequence_classification import truncation

Scores = dict[MetricName, NDArray[np.float64]]


def tag_scores(
    true: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]], labels: Sequence[str]
) -> tuple[Scores, dict[MetricName, float]]:
    """The metrics of each item, and of all together; tags are indices into `labels`, or UNREAD."""
    names = [*labels, ""]  # the last place is that of UNREAD, -1
    hits = [
        Hits.of([names[tag] for tag in own], [names[tag] for tag in others])
        for own, others in zip(true, predicted, strict=True)
    ]
    right = [
        sum(tag == other for tag, other in zip(own, others, strict=True)) / len(own)
        for own, others in zip(true, predicted, strict=True)
    ]
    together = Hits(*(sum(counts) for counts in zip(*hits, strict=True)))
    per_item: Scores = {
        "item_entity_f1": np.array([item.f1(of_none=1.0) for item in hits]),
        "tag_accuracy": np.array(right),
    }
    return per_item, {"entity_f1": together.f1(of_none=0.0)}


AUTO = AutoModelForTokenClassification
ARCHITECTURES = MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
PEFT_TYPE = "TOKEN_CLS"


@dataclass(frozen=True)
class Tagged(Texts):
    """A split of tagged words. Targets are tags at the first tokens of words, and IGNORED elsewhere."""

    read: Sequence[NDArray[np.int64]]
    """The words of each row that have a target, by their places in the row."""
    labels: Sequence[str]
    """Names of the tags."""


class Words(NamedTuple):
    """A tokenized row of words."""

    ids: list[int]
    starts: list[int | None]
    """The place of each word's first token; None for a word without one: beyond `max_length`, or of characters that the
    tokenizer drops."""


def incompatibility(config: PreTrainedConfig) -> Message | None:
    """Rejects encoder-decoders: transformers gives few of them a head over tokens, and those without a decoder."""
    if getattr(config, "is_encoder_decoder", False):
        return _(
            "A model of type %(type)r is an encoder-decoder. Choose an encoder or a decoder, or the task seq2seq-lm.",
            type=config.model_type,
        )
    return None


def encode(
    rows: Sequence[Row],
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
    job: TrainJob,
    sink: Listener,
) -> Tagged:
    """Tokens of every text, truncated to `max_length` including special tokens; a target for the first token of every
    word. Raises `RunFailed` for a row without one tag per word, for one without a token, for a training row without a
    word that the model reads, and for a tokenizer that cannot say where words are."""
    limit, long = job.spec.training.max_length, []
    tokens, targets, read = [], [], []
    for chunk in in_chunks(rows, sink.raise_if_stopped):
        tagged = [_checked(row, len(job.labels)) for row in chunk]
        tokenized = tokenize(tokenizer, [row.tokens for row in tagged], limit)
        full = [row.tokens for row, words in zip(tagged, tokenized, strict=True) if len(words.ids) >= limit]
        long += [len(words.ids) for words in tokenize(tokenizer, full) if len(words.ids) > limit] if full else []
        for row, words in zip(tagged, tokenized, strict=True):
            places = [(word, start) for word, start in enumerate(words.starts) if start is not None]
            target = np.full(len(words.ids), IGNORED, dtype=np.int64)
            target[[start for _word, start in places]] = [row.tags[word] for word, _start in places]
            tokens.append(np.asarray(words.ids, dtype=np.int32))
            targets.append(target)
            read.append(np.asarray([word for word, _start in places], dtype=np.int64))
            if not words.ids or (split == "train" and not places):
                raise unusable(row, _("has no word that the model reads"), _("Leave it out, or raise max_length"))
    check_vocabulary(rows, tokens, model)
    if long:
        sink.log(truncation(split, len(rows), long, job, most_tokens(model.config, tokenizer)))
    unread = sum(
        len(row.tags) - len(words) for row, words in zip(rows, read, strict=True) if isinstance(row, TaggedRow)
    )
    if unread:
        sink.log(f"{unread} words of the {split} split have no token that the model reads: their tags count as wrong.")
    return Tagged(rows, targets, [len(t) for t in tokens], tokens, read, job.labels, truncated=long)


def tokenize(
    tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sequence[str]], limit: int | None = None
) -> list[Words]:
    """Tokenize words with a space between them, as they stand in a text; `limit` truncates. Raises
    `RunFailed(bad_configuration)` for a tokenizer that does not report where its tokens are."""
    texts = [" ".join(words) for words in sentences]
    how = {} if limit is None else {"truncation": True, "max_length": limit}
    try:
        encoded = tokenizer(
            texts,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
            **how,
        )
    except NotImplementedError as error:
        text = _(
            "The base model's tokenizer does not report where its tokens stand in a text, which tags of words need. "
            "Choose a base model with a tokenizer.json."
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error
    pairs = zip(sentences, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [Words(ids, _starts(words, offsets)) for words, ids, offsets in pairs]


def _starts(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int | None]:
    """The first token of each word. `offsets`: where each token begins and ends in the text; special tokens are
    empty, and some tokens begin with the space before their word."""
    starts: list[int | None] = [None] * len(words)
    word, begin = 0, 0
    for place, (first, end) in enumerate(offsets):
        if end <= first:
            continue
        while word < len(words) and begin + len(words[word]) <= first:
            begin += len(words[word]) + 1
            word += 1
        if word < len(words) and end > begin and starts[word] is None:
            starts[word] = place
    return starts


def _checked(row: Row, tags: int) -> TaggedRow:
    if not isinstance(row, TaggedRow) or not row.tokens or len(row.tokens) != len(row.tags or ()):
        raise unusable(row, _("does not have one tag per word"), _("Give it as many tags as words"))
    if not all(tag is not None and 0 <= tag < tags for tag in row.tags):
        raise unusable(row, _("has a tag outside 0 to %(last)s", last=tags - 1), _("Correct the dataset"))
    if not all(row.tokens):
        raise unusable(row, _("has an empty word"), _("Correct the dataset"))
    return row


def collate(examples: Tagged, indices: Sequence[int], pad_token: int) -> Batch:
    """Rows padded on the right; labels [B, T] are the tags, IGNORED where no word begins."""
    [most] = examples.longest
    ids, mask = padded([examples.tokens[i] for i in indices], pad_token, most=most)
    labels, _mask = padded([examples.targets[i] for i in indices], IGNORED, most=most)
    return Batch({"input_ids": ids, "attention_mask": mask}, labels, int(mask.sum()), learnt(labels))


def losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    return functional.cross_entropy(_logits(model, batch), batch.targets, reduction="none")


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return functional.cross_entropy(_logits(model, batch), batch.targets, reduction="sum")


def _logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """[N, tags] at the first tokens of the words, float32; virtual tokens come before the text's own."""
    assert batch.places is not None  # noqa: S101 collate gives them
    logits: torch.Tensor = model(**batch.inputs).logits
    return logits[:, -batch.labels.shape[1] :][batch.places].float()


def evaluate(model: nn.Module, examples: Tagged, evaluator: Evaluator, *, generate: bool) -> Predictions:
    """Entity F1 and tag accuracy of each item, entity F1 of all, and the predicted tags."""
    rows = [row for row in examples.rows if isinstance(row, TaggedRow)]
    predicted = [np.full(len(row.tags), UNREAD, dtype=np.int64) for row in rows]
    total = 0.0
    with evaluator.judging(model):
        for indices, batch in evaluator.batches(examples):
            logits = _logits(model, batch)
            total += functional.cross_entropy(logits, batch.targets, reduction="sum").item()
            likely = logits.argmax(1).cpu().numpy()
            ends = np.cumsum([len(examples.read[i]) for i in indices])
            for i, tags in zip(indices, np.split(likely, ends[:-1]), strict=True):
                predicted[i][examples.read[i]] = tags
    answers: list[list[int]] = [row.tolist() for row in predicted]
    per_item, together = tag_scores([row.tags for row in rows], answers, examples.labels)
    return Predictions(
        loss=evaluator.finite(total / max(1, examples.units(range(len(examples))))),
        metrics={name: float(values.mean()) for name, values in per_item.items()} | together,
        per_item=per_item,
        columns={"prediction": answers},
    )
