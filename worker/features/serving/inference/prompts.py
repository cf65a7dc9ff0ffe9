"""Tokenize an input for a model exactly as the evaluation of its run does."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from app.domain.data.turns import Message as Turn
from app.domain.errors import FieldError, Invalid
from app.domain.failures import RunFailed
from app.domain.messages import Message, _
from app.domain.tasks import TASKS
from app.features.serving.rules import ChatMessage, Conversation, Input, Words, too_long
from worker.engine.data.batches.batches import most_tokens
from worker.engine.data.lines import LineWriter
from worker.engine.data.rows import special_tokens
from worker.engine.evaluation.generation import stop_tokens
from worker.engine.tasks import seq2seq_lm, sequence_classification, token_classification
from worker.features.serving.inference.models import Held

MOST_ERRORS = 20
"""Inputs that are named in one refusal."""
Tokens = NDArray[np.int32]


class Encoder:
    def __init__(self, held: Held, new_tokens: int, *, whole_context: bool = False, tools: str | None = None) -> None:
        """`new_tokens`: room for the answer of a language model. `whole_context`: as many tokens as the model has
        positions, and not only those that the run was evaluated with. `tools`: of conversations, as JSON."""
        self._held, self._task, self._tools = held, TASKS[held.job.job.spec.task], tools
        inner = held.model.get_base_model() if hasattr(held.model, "get_base_model") else held.model
        self._inner = inner
        self.limit, self.why = self._limit(new_tokens, whole_context)
        self._writer = (
            LineWriter(held.tokenizer, stop_tokens(inner.generation_config, held.tokenizer), True)
            if self._writes
            else None
        )

    @property
    def _writes(self) -> bool:
        return self._task.decoder

    def encode(
        self, inputs: Sequence[Input], *, truncate: bool, between: Callable[[], None] = lambda: None
    ) -> list[Tokens]:
        """Tokens of each input; `between` may raise before each. Raises `Invalid` for the ones that are too long,
        unless they are to be truncated, and for those without tokens or of the wrong form. A model that tags words
        gets its inputs as lists of words."""
        encoded: list[Tokens] = []
        errors: list[FieldError] = []
        for index, given in enumerate(inputs):
            between()
            try:
                ids, lead = self._tokens(index, given)
            except Invalid as error:
                errors += error.fields
                continue
            except RunFailed as error:
                errors.append(FieldError(f"inputs.{index}", Message(str(error.message).rstrip("."))))
                continue
            if not ids:
                errors.append(FieldError(f"inputs.{index}", _("This input has no token"), _("Write a text")))
            elif len(ids) > self.limit and not truncate:
                errors.append(too_long(index, len(ids), self.limit, self.why))
            else:
                encoded.append(np.asarray(self._cut(given, ids, lead), dtype=np.int32))
        if errors:
            raise Invalid.of(errors[:MOST_ERRORS])
        return encoded

    def _tokens(self, index: int, given: Input) -> tuple[list[int], int]:
        """All tokens, and how many of the first are never truncated."""
        if self._task.output == "tags" and (words := _words(given)) is not None:
            return token_classification.tokenize(self._held.tokenizer, [words])[0].ids, 0
        if isinstance(given, str):
            if self._task.labels_texts:
                return sequence_classification.token_ids(self._held.tokenizer, [given])[0], 0
            if self._task.encoder_decoder:
                return seq2seq_lm.token_ids(self._held.tokenizer, "text", [given])[0], 0
        elif not self._writes:
            what = _("A model for %(task)s reads no conversation", task=self._task.name)
            raise Invalid.field(f"inputs.{index}", what, _("Send a text"))
        assert self._writer is not None  # noqa: S101 of a decoder
        line = self._writer.prompt(given if isinstance(given, str) else _turns(given), self._tools)
        return line.ids, line.lead

    def _cut(self, given: Input, ids: list[int], lead: int) -> list[int]:
        """Truncate a long input as its task does."""
        if len(ids) <= self.limit:
            return ids
        if self._task.output == "tags" and (words := _words(given)) is not None:
            return token_classification.tokenize(self._held.tokenizer, [words], self.limit)[0].ids
        if self._task.labels_texts:
            limit = {"truncation": True, "max_length": self.limit}
            return sequence_classification.token_ids(self._held.tokenizer, [str(given)], **limit)[0]
        if self._writes:
            return [*ids[:lead], *ids[lead + len(ids) - self.limit :]]
        _start, ending = special_tokens(*(
            seq2seq_lm.token_ids(self._held.tokenizer, "text", ["a"], special)[0] for special in (False, True)
        ))  # fmt: skip
        return seq2seq_lm.cut(ids, ending, self.limit)

    def _limit(self, new_tokens: int, whole_context: bool) -> tuple[int, Message]:
        spec = self._held.job.job.spec
        room = most_tokens(self._inner.config, self._held.tokenizer)
        if room is not None:
            room -= spec.method.virtual_tokens if self._held.job.weights else 0
            room -= new_tokens if self._writes else 0
        if room is not None and room < 1:
            what = _(
                "%(tokens)s new tokens leave no room for a prompt: the model reads at most %(limit)s tokens",
                tokens=new_tokens,
                limit=room + new_tokens,
            )
            raise Invalid.field("decoding.max_new_tokens", what, _("Lower it"))
        length = spec.training.max_length
        if room is not None and (whole_context or room < length):
            why = _("the model reads at most %(limit)s beside the answer", limit=room)
            return room, why if self._writes else _("the model reads at most %(limit)s", limit=room)
        return length, _("the run was evaluated with at most %(limit)s (max_length)", limit=length)


def _words(given: Input) -> list[str] | None:
    """The words of a list of them; None of a conversation."""
    words = [word for word in given if isinstance(word, str)]
    return words if len(words) == len(given) else None


def _turns(conversation: Conversation | Words) -> list[Turn]:
    return [message.turn for message in conversation if isinstance(message, ChatMessage)]
