"""Tags of words, and the entities that they mark, in a text or a list of words.

The words are tokenized with a space between them, as the rows that the run was trained on. A text is split into words
first (`app.domain.data.tagging.word_spans`); who has words already sends these.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from app.domain.data.tagging import entities, joined_spans, word_spans
from app.domain.inference import EntitySpan, Input, Prediction, TaggedWord
from worker.engine.data.batches import padded
from worker.engine.data.order import evaluation_order
from worker.engine.inference.models import Held
from worker.engine.tasks.token_classification import Words, tokenize


def sentence(given: Input) -> list[TaggedWord]:
    """The words of an input, without tags; none of a conversation."""
    if isinstance(given, str):
        return [TaggedWord(text=given[span.start : span.end], start=span.start, end=span.end)
                for span in word_spans(given)]  # fmt: skip
    words = [word for word in given if isinstance(word, str)]
    return [TaggedWord(text=word, start=span.start, end=span.end)
            for word, span in zip(words, joined_spans(words), strict=True)]  # fmt: skip


def tag(held: Held, inputs: Sequence[Input], limit: int, between: Callable[[], None]) -> Iterator[Prediction]:
    """The prediction for each input, batch by batch, of its first `limit` tokens; `between` may raise before each."""
    size, pad = held.job.job.spec.training.per_device_eval_batch_size, held.tokenizer.pad_token_id or 0
    sentences = [sentence(given) for given in inputs]
    tokenized = tokenize(held.tokenizer, [[word.text for word in words] for words in sentences], limit)
    for indices in evaluation_order([len(words.ids) for words in tokenized], size):
        between()
        ids, mask = padded([np.asarray(tokenized[i].ids, dtype=np.int32) for i in indices], pad)
        with torch.inference_mode():
            logits = held.model(input_ids=ids, attention_mask=mask).logits
        probabilities = logits[:, -ids.shape[1] :].float().softmax(dim=-1)  # virtual tokens come first
        for i, rows in zip(indices, probabilities, strict=True):
            text = given if isinstance(given := inputs[i], str) else " ".join(word.text for word in sentences[i])
            yield _prediction(i, text, sentences[i], tokenized[i], rows, held.job.job.labels)


def _prediction(
    index: int, text: str, words: Sequence[TaggedWord], tokenized: Words, rows: torch.Tensor, labels: Sequence[str]
) -> Prediction:
    """From the probabilities [T, tags] of an input's tokens: each word has the tag of its first token."""
    tagged = []
    for word, start in zip(words, tokenized.starts, strict=True):
        if start is not None:
            best = int(rows[start].argmax())
            word = word.model_copy(update={"tag": labels[best], "probability": float(rows[start, best])})
        tagged.append(word)
    spans = [
        EntitySpan(type=entity.kind, text=text[first.start : last.end], start=first.start, end=last.end)
        for entity in entities([word.tag or "" for word in tagged])
        for first, last in [(tagged[entity.start], tagged[entity.end - 1])]
    ]
    return Prediction(index=index, words=tagged, entities=spans, tokens=len(tokenized.ids))
