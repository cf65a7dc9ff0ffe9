"""Answer one request: load its models, then classify, tag or generate.

The words are tokenized with a space between them, as the rows that the run was trained on. A text is split into words
first (`app.domain.data.tagging.word_spans`); who has words already sends these.

Class probabilities, and the importance of each word by occlusion (Zeiler and Fergus 2014, arXiv 1311.2901, section
2.2; for words Li et al. 2016, arXiv 1612.08220).

    importance(w) = p(label | text) − p(label | text with w replaced by the mask token)

A tokenizer without a mask token has the word removed. Words are runs of characters without white space.
"""

import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from app.domain.data.images import png_of, size_of
from app.domain.data.tagging import Span, entities, joined_spans, word_spans
from app.domain.errors import Invalid
from app.domain.messages import _
from app.domain.tasks import LANGUAGE, PICTURES, TASKS
from app.features.serving.rules import (
    MOST_IMPORTANCE_WORDS,
    MOST_REQUEST_WORDS,
    MOST_WORDS,
    Decoding,
    EntitySpan,
    Input,
    Picture,
    Prediction,
    TaggedWord,
    WorkRequest,
)
from worker.engine.data.batches.batches import padded
from worker.engine.data.batches.order import evaluation_order
from worker.engine.data.chats.parts import before_calls
from worker.engine.data.images import Normalization, opened, resized
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.evaluation.generation import write
from worker.engine.tasks.token_classification import Words, tokenize
from worker.features.serving.inference.generate import Token, generate
from worker.features.serving.inference.models import Held, Models
from worker.features.serving.inference.prompts import Encoder, Tokens

WORD = re.compile(r"\S+")
OCCLUDED_BATCH = 16


def classify(held: Held, encoded: Sequence[Tokens], between: Callable[[], None]) -> Iterator[Prediction]:
    """The prediction for each input, batch by batch; `between` may raise before each."""
    size = held.job.job.spec.training.per_device_eval_batch_size
    labels = held.job.job.labels
    for indices in evaluation_order([len(tokens) for tokens in encoded], size):
        between()
        rows = probabilities(held, [encoded[i] for i in indices])
        for i, row in zip(indices, rows, strict=True):
            yield prediction_of(i, labels, row.tolist(), len(encoded[i]))


def prediction_of(
    index: int, labels: Sequence[str], probabilities: Sequence[float], tokens: int | None = None
) -> Prediction:
    """The most probable label of an input, with all probabilities."""
    of_label = dict(zip(labels, probabilities, strict=True))
    return Prediction(index=index, label=max(of_label, key=of_label.__getitem__), probabilities=of_label, tokens=tokens)


def probabilities(held: Held, encoded: Sequence[Tokens]) -> torch.Tensor:
    """[B, labels] of one batch, float32."""
    ids, mask = padded(encoded, held.tokenizer.pad_token_id or 0)
    with torch.inference_mode():
        logits: torch.Tensor = held.model(input_ids=ids, attention_mask=mask).logits
    return logits.float().softmax(dim=1)


def importance(
    held: Held, encoder: Encoder, text: str, prediction: Prediction, between: Callable[[], None]
) -> list[tuple[str, float | None]]:
    """Each word with its importance for the predicted label; None beyond the first `MOST_IMPORTANCE_WORDS`, and for the
    only word of a text if nothing takes its place."""
    places = list(WORD.finditer(text))
    mask = str(held.tokenizer.mask_token or "")
    if not mask and len(places) == 1:
        return [(text, None)]
    occluded = [f"{text[: word.start()]}{mask}{text[word.end() :]}" for word in places[:MOST_IMPORTANCE_WORDS]]
    assert prediction.label is not None and prediction.probabilities is not None  # noqa: S101 of a classifier
    whole = prediction.probabilities[prediction.label]
    column = held.job.job.labels.index(prediction.label)
    falls: list[float | None] = []
    for start in range(0, len(occluded), OCCLUDED_BATCH):
        between()
        encoded = encoder.encode(occluded[start : start + OCCLUDED_BATCH], truncate=True)
        falls += [whole - p for p in probabilities(held, encoded)[:, column].tolist()]
    falls += [None] * (len(places) - len(falls))
    return [(word[0], fall) for word, fall in zip(places, falls, strict=True)]


def classify_pictures(held: Held, pngs: Sequence[bytes], between: Callable[[], None]) -> Iterator[Prediction]:
    """The prediction for each picture, batch by batch; `between` may raise before each."""
    size = held.job.job.spec.training.per_device_eval_batch_size
    normalization = Normalization.of(held.tokenizer)
    dtype = next(held.model.parameters()).dtype
    for start in range(0, len(pngs), size):
        between()
        pixels = np.stack(resized(held.tokenizer, [opened(png) for png in pngs[start : start + size]]))
        values = normalization.of_pixels(torch.from_numpy(pixels)).to(dtype)
        with torch.inference_mode():
            logits: torch.Tensor = held.model(pixel_values=values).logits
        for place, row in enumerate(logits.float().softmax(dim=1), start):
            yield prediction_of(place, held.job.job.labels, row.tolist())


def seen(held: Held, png: bytes) -> dict[str, Any]:
    """The event that shows a picture as the model reads it."""
    [pixels] = resized(held.tokenizer, [opened(png)])
    _channels, height, width = pixels.shape
    image = b64encode(png_of(width, height, pixels.transpose(1, 2, 0).tobytes())).decode()
    return {
        "type": "seen",
        "image": f"data:image/png;base64,{image}",
        "size": [width, height],
        "stored_size": list(size_of(png)),
    }


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


HEARTBEAT_SECONDS = 5.0
"""Longest time without an event between two tokens, two batches or two files of a download."""
_THINK_TOKENS = 12
"""At the end of a prompt, enough for `<think>` and white space."""
Emit = Callable[[Mapping[str, Any]], None]
"""Sends an event of `app.features.serving.rules`."""


class Cancelled(Exception):
    """The reader has left."""


class Answering:
    def __init__(self, models: Models, work: WorkRequest, emit: Emit, cancelled: Callable[[], bool]) -> None:
        self._models, self._work, self._send, self._cancelled = models, work, emit, cancelled
        self._request, self._sent_at = work.request, time.monotonic()

    def run(self) -> None:
        """Emit every event but the last one. Raises `Cancelled`, `Invalid`, `Unavailable`, `RunFailed`."""
        ready = self._models.ready(self._work.jobs, self._work.reserved_bytes, self._loading, self._between)
        self._emit({"type": "loaded", "bytes": self._models.bytes, "models": self._models.keys})
        if ready[0].job.job.spec.task in PICTURES:  # then all of them
            self._classify_pictures(ready)
            return
        encoders = [self._encoder(held) for held in ready]
        inputs = [given for given in self._request.inputs if not isinstance(given, Picture)]
        split: list[Sentence] = []
        if TASKS[ready[0].job.job.spec.task].output == "tags":  # then all of them
            split = sentences(inputs, self._between)
            inputs = [one.words if one.words else given for one, given in zip(split, inputs, strict=True)]
        encoded = [e.encode(inputs, truncate=self._request.truncate, between=self._between) for e in encoders]
        for place, (held, encoder, tokens) in enumerate(zip(ready, encoders, encoded, strict=True)):
            if TASKS[held.job.job.spec.task].output == "tags":
                for prediction in tag(held, split, [len(ids) for ids in tokens], encoder.limit, self._between):
                    self._answers(place, [prediction], encoder.limit)
            elif held.job.job.spec.task not in LANGUAGE:
                self._classify(place, held, encoder, tokens)
            elif self._request.kind == "predict" and not self._sampled_or_stopped:
                self._write(place, held, tokens)
            else:
                self._generate(place, held, tokens, encoder.limit)

    def _classify_pictures(self, ready: list[Held]) -> None:
        pngs = [given.data for given in self._request.inputs if isinstance(given, Picture)]
        if self._request.kind == "compare":
            self._emit(seen(ready[0], pngs[0]))
        for place, held in enumerate(ready):
            for prediction in classify_pictures(held, pngs, self._between):
                self._answers(place, [prediction])

    def _encoder(self, held: Held) -> Encoder:
        request, most = self._request, new_tokens(held, self._request.decoding)
        return Encoder(held, most, whole_context=request.whole_context, tools=request.tools)

    def _loading(self, place: int, predicted: int) -> None:
        self._between()
        self._emit({"type": "loading", "subject": place, "bytes": predicted})

    @property
    def _sampled_or_stopped(self) -> bool:
        """The evaluation, which decodes greedily and in batches, has no stop texts."""
        return bool(self._request.decoding.temperature or self._request.decoding.stop)

    def _emit(self, event: Mapping[str, Any]) -> None:
        self._send(event)
        self._sent_at = time.monotonic()

    def _left(self) -> bool:
        """Whether the reader has left. Emits a heartbeat if it is time."""
        if time.monotonic() - self._sent_at >= HEARTBEAT_SECONDS:
            self._emit({"type": "working"})
        return self._cancelled()

    def _between(self) -> None:
        if self._left():
            raise Cancelled

    def _classify(self, place: int, held: Held, encoder: Encoder, encoded: list[Tokens]) -> None:
        for prediction in classify(held, encoded, self._between):
            if self._request.importance and isinstance(text := self._request.inputs[prediction.index], str):
                words = importance(held, encoder, text, prediction, self._between)
                prediction = prediction.model_copy(update={"importance": words})
            self._answers(place, [prediction], encoder.limit)

    def _write(self, place: int, held: Held, encoded: list[Tokens]) -> None:
        """Greedy decoding in batches, by the code of the run's evaluation."""
        training = held.job.job.spec.training
        size, limit = training.per_device_eval_batch_size, new_tokens(held, self._request.decoding)
        for start in range(0, len(encoded), size):
            evaluator = Evaluator(
                torch.device("cpu"), size, int(held.tokenizer.pad_token_id or 0), False, self._between,
                lambda _line: None, _no_batches, limit,
            )  # fmt: skip
            texts = write(held.model, encoded[start : start + size], held.tokenizer, evaluator)
            counts = [len(ids) for ids in held.tokenizer(texts, add_special_tokens=False)["input_ids"]]
            pairs = enumerate(zip(texts, counts, strict=True), start)
            self._answers(place, [Prediction(index=n, text=text, tokens=tokens) for n, (text, tokens) in pairs])

    def _generate(self, place: int, held: Held, encoded: list[Tokens], limit: int) -> None:
        how, most = self._request.decoding, new_tokens(held, self._request.decoding)
        for index, prompt in enumerate(encoded):
            texts: list[str] = []
            if self._request.kind == "compare":
                self._form(place, held, prompt)

            def emit(token: Token, texts: list[str] = texts) -> None:
                texts.append(token.text)
                if self._request.kind == "compare":
                    top = [list(other) for other in token.top]
                    self._emit({"type": "token", "subject": place, "id": token.id, "text": token.text,
                                "logprob": token.logprob, "top": top})  # fmt: skip

            seeded = how.model_copy(update={"seed": (how.seed + index) % 2**63})
            written = generate(held, prompt, seeded, most, self._request.top, emit, self._left)
            self._between()
            if self._request.kind == "compare":
                self._emit({"type": "finished", "subject": place, "tokens": written.tokens, "finish": written.finish,
                            "prompt_tokens": len(prompt), "limit": limit})  # fmt: skip
            else:
                self._answers(place, [Prediction(index=index, text="".join(texts), tokens=written.tokens)])

    def _form(self, place: int, held: Held, prompt: Tokens) -> None:
        """How to read the answer in a conversation."""
        ending = str(held.tokenizer.decode(prompt[-_THINK_TOKENS:].tolist()))
        reasons = not isinstance(self._request.inputs[0], str) and ending.rstrip().endswith("<think>")
        if reasons or self._request.tools:
            mark = before_calls(held.tokenizer) if self._request.tools else None
            self._emit({"type": "form", "subject": place, "reasons": reasons, "mark": mark})

    def _answers(self, place: int, predictions: list[Prediction], limit: int | None = None) -> None:
        dumped = [prediction.model_dump(exclude_none=True) for prediction in predictions]
        self._emit({"type": "answers", "subject": place, "predictions": dumped, "limit": limit})


def new_tokens(held: Held, how: Decoding) -> int:
    """The most tokens of an answer: as requested, or as the run's evaluation generates."""
    return how.max_new_tokens or held.job.job.spec.training.max_new_tokens


def _no_batches(_examples: Any, _indices: Any, _pad: int) -> Any:
    """`write` makes its own batches."""
    raise NotImplementedError
