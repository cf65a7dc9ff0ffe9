"""Tags of words, and the entities that they mark, in a text or a list of words.

The words are tokenized with a space between them, as the rows that the run was trained on. A text is split into words
first (`app.domain.data.tagging.word_spans`); who has words already sends these.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from app.domain.data.tagging import Span, entities, joined_spans, word_spans
from app.domain.errors import Invalid
from app.domain.inference import MOST_REQUEST_WORDS, MOST_WORDS, EntitySpan, Input, Prediction, TaggedWord
from app.domain.messages import _
from worker.engine.data.batches.batches import padded
from worker.engine.data.batches.order import evaluation_order
from worker.engine.inference.models import Held
from worker.engine.tasks.token_classification import Words, tokenize


class Sentence(NamedTuple):
    """The words of an input, and where they are in its text."""

    text: str
    words: list[str]
    spans: list[Span]


def sentences(inputs: Sequence[Input], between: Callable[[], None]) -> list[Sentence]:
    """The sentences of each input; `between` may raise before each. A conversation has no words. Raises Invalid for
    more words than an input or a request may have."""
    split, total = [], 0
    for index, given in enumerate(inputs):
        between()
        one = _sentence(given)
        total += len(one.words)
        if len(one.words) > MOST_WORDS:
            what = _("This input has more than %(most)s words", most=MOST_WORDS)
            raise Invalid.field(f"inputs.{index}", what, _("Divide it into several inputs"))
        if total > MOST_REQUEST_WORDS:
            what = _("The inputs have more than %(most)s words together", most=MOST_REQUEST_WORDS)
            raise Invalid.field("inputs", what, _("Send fewer inputs in a request"))
        split.append(one)
    return split


def _sentence(given: Input) -> Sentence:
    if isinstance(given, str):
        spans = list(islice(word_spans(given), MOST_WORDS + 1))
        return Sentence(given, [given[span.start : span.end] for span in spans], spans)
    words = [word for word in given if isinstance(word, str)]
    return Sentence(" ".join(words), words, joined_spans(words))


def tag(
    held: Held, split: Sequence[Sentence], lengths: Sequence[int], limit: int, between: Callable[[], None]
) -> Iterator[Prediction]:
    """The prediction for each sentence, batch by batch, of its first `limit` tokens; `between` may raise before each.
    `lengths`: their tokens."""
    size, pad = held.job.job.spec.training.per_device_eval_batch_size, held.tokenizer.pad_token_id or 0
    for indices in evaluation_order(lengths, size):
        between()
        tokenized = tokenize(held.tokenizer, [split[i].words for i in indices], limit)
        ids, mask = padded([np.asarray(words.ids, dtype=np.int32) for words in tokenized], pad)
        with torch.inference_mode():
            logits = held.model(input_ids=ids, attention_mask=mask).logits
        probabilities = logits[:, -ids.shape[1] :].float().softmax(dim=-1)  # virtual tokens come first
        for i, words, rows in zip(indices, tokenized, probabilities, strict=True):
            yield _prediction(i, split[i], words, rows, held.job.job.labels)


def _prediction(
    index: int, sentence: Sentence, tokenized: Words, rows: torch.Tensor, labels: Sequence[str]
) -> Prediction:
    """From the probabilities [T, tags] of an input's tokens: each word has the tag of its first token."""
    tagged = []
    for word, span, start in zip(sentence.words, sentence.spans, tokenized.starts, strict=True):
        best = None if start is None else int(rows[start].argmax())
        named = {} if best is None else {"tag": labels[best], "probability": float(rows[start, best])}
        tagged.append(TaggedWord(text=word, start=span.start, end=span.end, **named))
    spans = [
        EntitySpan(type=entity.kind, text=sentence.text[first.start : last.end], start=first.start, end=last.end)
        for entity in entities([word.tag or "" for word in tagged])
        for first, last in [(tagged[entity.start], tagged[entity.end - 1])]
    ]
    return Prediction(index=index, words=tagged, entities=spans, tokens=len(tokenized.ids))
