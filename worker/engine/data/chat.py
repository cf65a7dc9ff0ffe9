"""Render a conversation with the tokenizer's chat template, and find the assistant's turns in the text.

A template is untrusted code. transformers runs it in jinja2's `ImmutableSandboxedEnvironment`, which denies attributes
that start with an underscore and changes to its arguments, and so denies Python itself. Here the number of executed
lines and the memory are limited as well. A single operation that never ends (`9**9**9**9`) is not covered; the worker
kills a trainer that reports nothing for too long.

Where the template marks the assistant's output (`{% generation %}`), the marks are used. Otherwise a turn is the text
that it adds to the rendered turns before it with the generation prompt, provided that these are prefixes:

    render(m_1 … m_i−1, with a generation prompt)    is a prefix of
    render(m_1 … m_i)                                is a prefix of    render(m_1 … m_n)

Where only the last turn is learnt (i = n), the first condition is enough, so a template may change earlier turns, as
Qwen3's removes their thoughts.
"""

import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from app.domain.data.dataset import ChatRow, Message
from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from worker.engine.data.rows import unusable

ASSISTANT = "assistant"
_MOST_LINES = 1_000_000
"""Maximum executed lines of the compiled template per conversation; a normal one executes a few hundred."""
_MOST_BYTES = 2**30
"""Maximum memory beyond what the process has when a template starts."""
_MOST_CHARACTERS = 2**24
"""Maximum length of a template, and of its output."""
_TRANSFORMERS = render_jinja_template.__code__.co_filename
"""Lines of transformers itself are not counted."""
_PAGE = resource.getpagesize()


class ChatTemplate:
    """Renders conversations."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises `RunFailed(bad_configuration)` if the tokenizer has no template."""
        try:
            self._template = tokenizer.get_chat_template()
        except ValueError:
            self._template = ""
        if not self._template or len(self._template) > _MOST_CHARACTERS:
            raise RunFailed(
                FailureCode.BAD_CONFIGURATION,
                _(
                    "The base model's tokenizer has no chat template for messages. Choose an instruction-tuned "
                    "model, put a chat_template into its tokenizer_config.json, or use prompts and completions."
                ),
            )
        self._special = tokenizer.special_tokens_map
        self._marks = bool(re.search(r"{%-?\s*generation\s*-?%}", self._template))

    def pieces(self, row: ChatRow, *, last_only: bool = False) -> list[str]:
        """The text up to the end of the last assistant turn, split into context, turn, context, turn, …; with
        `last_only` into the context of the last turn and the turn.

        Raises `RunFailed(bad_configuration)` if the row has no assistant turn or the template cannot render it.
        """
        messages = _checked(row)
        try:
            with _bounded():
                if self._marks:
                    text, turns = self._render(messages, marked=True)
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
        except Exception as error:  # a template may raise anything
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
            with _bounded():
                return self._render(messages, prompt=True)[0]
        except Exception as error:  # a template may raise anything
            reason = first_line(error)
            text = _("The chat template cannot render this conversation (%(reason)s).", reason=reason)
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error

    def _by_beginnings(self, messages: list[Message], first: int) -> tuple[str, list[tuple[int, int]]]:
        """The conversation, and the assistant's turns from the message `first` on."""
        conversation, _marks = self._render(messages)
        turns = []
        for i, message in enumerate(messages):
            if i >= first and message["role"] == ASSISTANT:
                before, _marks = self._render(messages[:i], prompt=True)
                after, _marks = self._render(messages[: i + 1])
                if not (conversation.startswith(after) and after.startswith(before)):
                    raise _ChangesItsMindError
                turns.append((len(before), len(after)))
        return conversation, turns

    def _render(
        self, messages: list[Message], *, marked: bool = False, prompt: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """The rendered text, and the start and end of each marked turn."""
        render: Any = render_jinja_template  # its annotations do not match what it returns
        texts, marks = render(
            conversations=[messages],
            chat_template=self._template,
            return_assistant_tokens_mask=marked,
            add_generation_prompt=prompt,
            **self._special,
        )
        if len(texts[0]) > _MOST_CHARACTERS:
            raise _EndlessError(f"it writes {len(texts[0])} characters")
        return texts[0], marks[0] if marked else []


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


class _EndlessError(Exception):
    """A template exceeds a limit."""


class _ChangesItsMindError(Exception):
    """Rendering the first turns alone does not give a prefix of the whole conversation."""


@contextmanager
def _bounded() -> Iterator[None]:
    """Stop the code inside, in this thread, after too many lines; on Linux also limit its memory."""
    left = _MOST_LINES

    def count(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise _EndlessError(f"it did not finish within {_MOST_LINES} lines")
        return None if frame.f_code.co_filename == _TRANSFORMERS else count

    before, limits = sys.gettrace(), resource.getrlimit(resource.RLIMIT_AS)
    try:
        _allow(_MOST_BYTES, limits)
        sys.settrace(count)
        yield
    finally:
        sys.settrace(before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _allow(extra_bytes: int, limits: tuple[int, int]) -> None:
    """Limit the process to this many more bytes than it uses now."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        allowed = int(statm.read_text().split()[0]) * _PAGE + extra_bytes
        soft = [limit for limit in limits if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min([allowed, *soft]), limits[1]))
