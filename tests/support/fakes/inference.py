"""A worker that answers requests for inference without a model, and a reader that no broker is needed for."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from app.domain.data.tagging import entities, word_spans
from app.features.serving.rules import InferenceRequest

Answer = Callable[[InferenceRequest], Sequence[dict[str, Any]]]


class FakeExchange:
    """Stands for `app.broker.exchange.Reader`: remembers requests, and answers them at once."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[InferenceRequest] = []
        self.closed = 0
        """Requests whose reader has finished, or left."""

    async def ask(self, request_id: str, body: str) -> AsyncGenerator[dict[str, Any]]:
        """The events of the answer."""
        request = InferenceRequest.model_validate_json(body)
        assert request.id == request_id
        self.requests.append(request)
        try:
            for event in (*self.answer(request), {"type": "end"}):
                yield event
        finally:
            self.closed += 1

    async def close(self) -> None:
        """Nothing."""


def classified(label: str, probabilities: dict[str, float]) -> Answer:
    """Every input gets the same label, with the importance of its words if that is asked for."""

    def answer(request: InferenceRequest) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = [{"type": "loaded", "bytes": 100 << 20, "models": ["run 1/1"]}]
        for place in range(len(request.subjects)):
            for index, given in enumerate(request.inputs):
                one = {"index": index, "label": label, "probabilities": probabilities, "tokens": 4}
                if request.importance:
                    one |= {"importance": [(word, 0.1 * n) for n, word in enumerate(str(given).split())]}
                events.append({"type": "answers", "subject": place, "predictions": [one], "limit": 128})
        return events

    return answer


def tagged(tags: dict[str, str], of_others: dict[str, str] | None = None) -> Answer:
    """Words have the tags of a table, O without one; those of the subjects but the first are `of_others`."""

    def answer(request: InferenceRequest) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = [{"type": "loaded", "bytes": 100 << 20, "models": ["run 1/1"]}]
        for place in range(len(request.subjects)):
            table = of_others if place and of_others is not None else tags
            for index, given in enumerate(request.inputs):
                text = given if isinstance(given, str) else " ".join(map(str, given))
                words = [{"text": text[s.start : s.end], "start": s.start, "end": s.end} for s in word_spans(text)]
                named = [word | {"tag": table.get(str(word["text"]), "O"), "probability": 0.9} for word in words]
                found = [
                    {"type": kind, "text": text[start:end], "start": start, "end": end}
                    for kind, first, last in entities([str(word["tag"]) for word in named])
                    for start, end in [(int(words[first]["start"]), int(words[last - 1]["end"]))]
                ]
                one = {"index": index, "words": named, "entities": found, "tokens": len(words)}
                events.append({"type": "answers", "subject": place, "predictions": [one], "limit": 128})
        return events

    return answer


def written(*words: str) -> Answer:
    """Every subject writes the same words, but that the last one writes another last word."""

    def answer(request: InferenceRequest) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = [{"type": "loaded", "bytes": 100 << 20, "models": ["run 1/1"]}]
        last = len(request.subjects) - 1
        for place in range(len(request.subjects)):
            mine = [*words[:-1], "otherwise"] if last and place == last else words
            for n, word in enumerate(mine):
                top = [[n, f" {word}", -0.1], [99, " perhaps", -2.5]]
                events.append(
                    {"type": "token", "subject": place, "id": n, "text": f" {word}", "logprob": -0.1, "top": top}
                )
            events.append({"type": "finished", "subject": place, "tokens": len(mine), "finish": "stop",
                           "prompt_tokens": 3, "limit": 100})  # fmt: skip
        return events

    return answer
