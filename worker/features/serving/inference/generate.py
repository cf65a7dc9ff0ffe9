"""One text, token by token, with the probability of each.

    greedy      the most probable token each time
    sampled     softmax(logits / temperature), restricted to the top_p nucleus (Holtzman et al. 2020, arXiv 1904.09751)

Log-probabilities are those of the model, before temperature and nucleus. The text of a token is what it adds to the
text so far, since a tokenizer may write a character with several tokens, or a space only between two words.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from app.features.serving.rules import Decoding, Finish
from worker.engine.evaluation.generation import decoding, stop_tokens
from worker.features.serving.inference.models import Held
from worker.features.serving.inference.prompts import Tokens

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""Ends a text whose last character lacks bytes."""


class Token(NamedTuple):
    id: int
    text: str
    logprob: float
    top: list[tuple[int, str, float]]
    """The most probable tokens at its place: id, text, log-probability. Tokens that generation excludes there (a forced
    first token excludes all others) are left out."""


class Written(NamedTuple):
    """The number of generated tokens, and why generation ended."""

    tokens: int
    finish: Finish


def generate(
    held: Held, prompt: Tokens, how: Decoding, limit: int, top: int, emit: Callable[[Token], None],
    cancelled: Callable[[], bool],
) -> Written:  # fmt: skip
    """Generate at most `limit` tokens after a prompt. `emit` gets each token; one that might begin a text of `how.stop`
    is held back until that is decided."""
    model: Any = held.model
    inner: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    stops = stop_tokens(inner.generation_config, held.tokenizer)
    watch = _Watch(held, stops, how.stop, top, emit, cancelled)
    sampling = {"do_sample": True, "temperature": how.temperature, "top_p": how.top_p, "top_k": 0}
    ids = torch.from_numpy(prompt.astype("int64"))[None]
    if how.temperature:
        torch.manual_seed(how.seed)
    with (
        torch.inference_mode(),
        decoding(inner, held.tokenizer, stops, limit, **(sampling if how.temperature else {})) as config,
    ):
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            logits_processor=LogitsProcessorList([watch.scores]),
            stopping_criteria=StoppingCriteriaList([watch]),
        )
    watch.flush()
    return Written(len(watch.ids), watch.finish)


class _Scores(LogitsProcessor):
    """Remembers the log-probabilities of the next token, and changes nothing."""

    latest: torch.Tensor

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.latest = scores[0].float().log_softmax(dim=0)
        return scores


class _Watch(StoppingCriteria):
    """Emits each token as it is chosen, and stops at a stop text or when the reader has left."""

    def __init__(
        self,
        held: Held,
        stops: set[int],
        stop_texts: Sequence[str],
        top: int,
        emit: Callable[[Token], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self._tokenizer, self._stops, self._stop_texts = held.tokenizer, stops, stop_texts
        self._top, self._emit, self._cancelled = top, emit, cancelled
        self.scores = _Scores()
        self.ids: list[int] = []
        self.finish: Finish = "length"
        self._from = self._read = 0
        self._pending: list[Token] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        token = int(input_ids[0, -1])
        if token in self._stops:
            self.finish, done = "stop", True
        else:
            self._pending.append(self._token(token))
            done = self._at_stop_text()
            if not done and not self._may_begin_stop_text():
                self.flush()
        if not done and self._cancelled():
            self.finish, done = "cancelled", True
        return torch.tensor([done], device=input_ids.device)

    def flush(self) -> None:
        """Emit what was held back."""
        for token in self._pending:
            self._emit(token)
        self._pending = []

    def _token(self, token: int) -> Token:
        values, ids = self.scores.latest.topk(min(self._top, len(self.scores.latest)))
        window = self.ids[self._from :]
        others = [
            (n, self._decoded([*window, n])[len(self._decoded(window)) :], value)
            for n, value in zip(ids.tolist(), values.tolist(), strict=True)
            if math.isfinite(value)
        ]
        self.ids.append(token)
        return Token(token, self._added(), float(self.scores.latest[token]), others)

    def _added(self) -> str:
        """What the last token adds to the text; nothing for a special token, and while a character is incomplete."""
        before, now = self._decoded(self.ids[self._from : self._read]), self._decoded(self.ids[self._from :])
        if now.endswith(INCOMPLETE) or len(now) <= len(before):
            return ""
        self._from, self._read = self._read, len(self.ids)
        return now[len(before) :]

    def _decoded(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _at_stop_text(self) -> bool:
        """Whether the text held back has a stop text; then only what is before it is kept."""
        text = "".join(token.text for token in self._pending)
        places = [place for stop in self._stop_texts if (place := text.find(stop)) >= 0]
        if not places:
            return False
        room, kept = min(places), []
        for token in self._pending:
            if room <= 0:
                break
            kept.append(token._replace(text=token.text[:room]))
            room -= len(token.text)
        self._pending, self.finish = kept, "stop"
        return True

    def _may_begin_stop_text(self) -> bool:
        text = "".join(token.text for token in self._pending)
        return any(text.endswith(stop[:n]) for stop in self._stop_texts for n in range(1, len(stop)))
