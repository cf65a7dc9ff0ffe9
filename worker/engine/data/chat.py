"""Render a conversation with the tokenizer's chat template, and find the assistant's turns in the text.

A template is untrusted code. transformers runs it in jinja2's `ImmutableSandboxedEnvironment`, which denies attributes
that start with an underscore and changes to its arguments, and so denies Python itself. It runs in a process of its
own with a limit of time and memory (`rendering.py`).

Where the template marks the assistant's output (`{% generation %}`), the marks are used. Otherwise a turn is the text
that it adds to the rendered turns before it with the generation prompt, provided that these are prefixes:

    render(m_1 … m_i−1, with a generation prompt)    is a prefix of
    render(m_1 … m_i)                                is a prefix of    render(m_1 … m_n)

Where only the last turn is learnt (i = n), the first condition is enough, so a template may change earlier turns, as
Qwen3's removes their thoughts.
"""

import re
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from app.domain.data.dataset import ChatRow, Message
from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from worker.engine.data.rendering import RenderError, render, start_renderer
from worker.engine.data.rendering_child import MAX_CHARACTERS
from worker.engine.data.rows import unusable

ASSISTANT = "assistant"


class ChatTemplate:
    """Renders conversations."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises `RunFailed(bad_configuration)` if the tokenizer has no template."""
        try:
            self._template = tokenizer.get_chat_template()
        except ValueError:
            self._template = ""
        if not self._template or len(self._template) > MAX_CHARACTERS:
            raise RunFailed(
                FailureCode.BAD_CONFIGURATION,
                _(
                    "The base model's tokenizer has no chat template for messages. Choose an instruction-tuned "
                    "model, put a chat_template into its tokenizer_config.json, or use prompts and completions."
                ),
            )
        start_renderer()
        self._special = tokenizer.special_tokens_map
        self._marks = bool(re.search(r"{%-?\s*generation\s*-?%}", self._template))

    def pieces(self, row: ChatRow, *, last_only: bool = False) -> list[str]:
        """The text up to the end of the last assistant turn, split into context, turn, context, turn, …; with
        `last_only` into the context of the last turn and the turn.

        Raises `RunFailed(bad_configuration)` if the row has no assistant turn or the template cannot render it.
        """
        messages = _checked(row)
        try:
            if self._marks:
                text, turns, _lengths = render(self._template, messages, self._special, marked=True)
                turns = turns[-1:] if last_only else turns
            else:
                text, turns = self._by_beginnings(messages, len(messages) - 1 if last_only else 0)
        except _ChangesItsMindError:
            raise unusable(
                row,
                _(
                    "has turns that the chat template renders differently once others follow, so the assistant's turns "
                    "cannot be located"
                ),
                _("Mark its turns with {% generation %} in the template, or use prompts and completions"),
            ) from None
        except RenderError as error:
            reason = first_line(error)
            problem = _("cannot be rendered by the chat template (%(reason)s)", reason=reason)
            remedy = _("Change the row, or the chat_template in the base model's tokenizer_config.json")
            raise unusable(row, problem, remedy) from error
        cuts = [0, *(place for turn in turns for place in turn)]
        pieces = [text[start:stop] for start, stop in pairwise(cuts)]
        if not turns or not all(pieces[1::2]):
            raise unusable(row, _("loses the assistant's turns in the chat template"), _("Use another base model"))
        return pieces

    def prompt(self, messages: list[Message]) -> str:
        """A conversation with the prompt for the assistant's next turn. Raises `RunFailed(bad_configuration)` if the
        template cannot render it."""
        try:
            return render(self._template, messages, self._special, prompt=True).text
        except RenderError as error:
            reason = first_line(error)
            text = _("The chat template cannot render this conversation (%(reason)s).", reason=reason)
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error

    def _by_beginnings(self, messages: list[Message], first: int) -> tuple[str, list[tuple[int, int]]]:
        """The conversation, and the assistant's turns from the message `first` on."""
        replies = [i for i, message in enumerate(messages) if i >= first and message["role"] == ASSISTANT]
        beginnings = [beginning for i in replies for beginning in ((i, True), (i + 1, False))]
        text, _marks, lengths = render(self._template, messages, self._special, beginnings=beginnings)
        turns = []
        for before, after in zip(lengths[::2], lengths[1::2], strict=True):
            if before is None or after is None or after < before:
                raise _ChangesItsMindError
            turns.append((before, after))
        return text, turns


def _checked(row: ChatRow) -> list[Message]:
    """The messages up to the last one of the assistant; later ones have no target after them."""
    messages = list(row.messages or [])
    for place, message in enumerate(messages, start=1):
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            problem = _("has no role or no content in message %(place)s", place=place)
            raise unusable(row, problem, _("Give it both, as strings"))
        if message["role"] == ASSISTANT and not message["content"].strip():
            problem = _("has an empty assistant's turn, message %(place)s", place=place)
            raise unusable(row, problem, _("Leave the row out, or write an answer"))
    replies = [i for i, message in enumerate(messages) if message["role"] == ASSISTANT]
    if not replies:
        problem = _("has no turn of the role %(role)r to learn from", role=ASSISTANT)
        raise unusable(row, problem, _("Add one, or leave the row out"))
    return messages[: replies[-1] + 1]


class _ChangesItsMindError(Exception):
    """Rendering the first turns alone does not give a prefix of the whole conversation."""
