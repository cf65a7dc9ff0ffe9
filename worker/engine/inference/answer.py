"""Answer one request: load its models, then classify, tag or generate."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from app.domain.inference import LANGUAGE, PICTURES, Decoding, Picture, Prediction, WorkRequest
from worker.engine.data.chats.parts import before_calls
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.evaluation.generation import write
from worker.engine.inference.classify import classify, importance
from worker.engine.inference.generate import Token, generate
from worker.engine.inference.models import Held, Models
from worker.engine.inference.pictures import classify_pictures, seen
from worker.engine.inference.prompts import Encoder, Tokens
from worker.engine.inference.tag import Sentence, sentences, tag

HEARTBEAT_SECONDS = 5.0
"""Longest time without an event between two tokens, two batches or two files of a download."""
_THINK_TOKENS = 12
"""At the end of a prompt, enough for `<think>` and white space."""
Emit = Callable[[Mapping[str, Any]], None]
"""Sends an event of `app.domain.inference`."""


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
        if ready[0].job.job.spec.task == "token-classification":  # then all of them
            split = sentences(inputs, self._between)
            inputs = [one.words if one.words else given for one, given in zip(split, inputs, strict=True)]
        encoded = [e.encode(inputs, truncate=self._request.truncate, between=self._between) for e in encoders]
        for place, (held, encoder, tokens) in enumerate(zip(ready, encoders, encoded, strict=True)):
            if held.job.job.spec.task == "token-classification":
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
