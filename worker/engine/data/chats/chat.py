"""Render a conversation with the tokenizer's chat template, and find the assistant's turns in the text.

A template is untrusted code. transformers runs it in jinja2's `ImmutableSandboxedEnvironment`, which denies attributes
that start with an underscore and changes to its arguments, and so denies Python itself. It runs in a process of its
own with a limit of time and memory (`rendering.py`).

Where the template marks the assistant's output (`{% generation %}`), the marks are used. Otherwise a turn is the text
that it adds to the rendered turns before it with the generation prompt, provided that these are prefixes:

    render(m_1 … m_i−1, with a generation prompt)    is a prefix of
    render(m_1 … m_i)                                is a prefix of    render(m_1 … m_n)

Where only the last turn is learnt (i = n), the first condition is enough. A template may write earlier turns
differently, as Qwen3's leaves out their reasoning; such a turn lies where a mark in its place would (`_by_mark`).
"""

import json
import re
from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from app.domain.data.dataset import ChatRow
from app.domain.data.turns import ASSISTANT, Message, is_empty, is_learnt, last_reply, others
from app.domain.errors import first_line
from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from worker.engine.data.chats.rendering import RenderError, render, start_renderer
from worker.engine.data.chats.rendering_child import MAX_CHARACTERS
from worker.engine.data.rows import unusable

Turn = dict[str, Any]
"""A turn as templates take it."""
Span = tuple[int, int]
_MARK = "Vezna7Mark"
_END = 40
"""Characters at the end of a turn by which the next one is found."""


class Piece(NamedTuple):
    text: str
    learnt: bool | None
    """Whether it is in the loss; None for context, which is where prompts are learnt too."""


class ChatTemplate:
    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises `RunFailed(bad_configuration)` if the tokenizer has no template."""
        self._template, self._with_tools = _template_of(tokenizer, None), _template_of(tokenizer, [{}])
        if not self._template:
            text = _(
                "The base model's tokenizer has no chat template for messages. Choose an instruction-tuned "
                "model, put a chat_template into its tokenizer_config.json, or use prompts and completions."
            )
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
        start_renderer()
        self._marking = {t for t in (self._template, self._with_tools) if re.search(r"{%-?\s*generation\s*-?%}", t)}
        self._special = tokenizer.special_tokens_map

    def pieces(self, row: ChatRow, *, last_only: bool = False) -> tuple[list[Piece], bool]:
        """The text up to the end of the last assistant turn that is in the loss, split into context, turn, context,
        turn, …; with `last_only` into the context of the last turn and the turn. And whether the template leaves out
        the reasoning of a turn that is in the loss, once others follow.

        Raises `RunFailed(bad_configuration)` if the row has no such turn, or the template cannot render it, or it
        leaves out a part without which the row would mean something else.
        """
        messages = _checked(row)
        turns: list[Turn] = [as_rendered(message) for message in messages]
        tools: list[Any] | None = json.loads(row.tools or "null")
        places = [place for place, turn in enumerate(turns) if turn["role"] == ASSISTANT][-1 if last_only else 0 :]
        try:
            text, spans = self._located(turns, tools, places)
            taken = [is_learnt(messages[place]) for place in places]
            learnt = {place for place, own in zip(places, taken, strict=True) if own}
            if len(spans) != len(places):  # the template marks parts of turns, or not all turns
                if not all(taken):
                    raise _ChangesItsMindError
                places, taken = [], [True] * len(spans)
            lost, forgotten = self._lost(turns, tools, text, dict(zip(places, spans, strict=False)))
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
        if not spans or not all(start < stop for start, stop in spans):
            raise unusable(row, _("loses the assistant's turns in the chat template"), _("Use another base model"))
        if lost is not None:
            problem = _("loses %(part)s of message %(place)s in the chat template", part=lost[0], place=lost[1] + 1)
            if lost[0] == "tools":
                problem = _("loses its tools in the chat template")
            raise unusable(row, problem, _("Use another base model, or leave it out of the row"))
        cuts = [0, *(place for span in spans for place in span)]
        texts = [text[start:stop] for start, stop in pairwise(cuts)]
        pieces = [Piece(part, taken[n // 2] if n % 2 else None) for n, part in enumerate(texts)]
        return pieces, not learnt.isdisjoint(forgotten)

    def prompt(self, messages: list[Message], tools: str | None = None) -> str:
        """A conversation with the prompt for the assistant's next turn. Raises `RunFailed(bad_configuration)` if the
        template cannot render it, or leaves out its tools, a call or a reasoning."""
        turns, listed = [as_rendered(message) for message in messages], json.loads(tools or "null")
        try:
            lost = None
            if tools or any(map(others, messages)):
                lost, _forgotten = self._lost(turns, listed, self._text(turns, listed), {})
            if lost is not None:
                part = lost[0] if lost[0] == "tools" else f"messages.{lost[1]}.{lost[0]}"
                text = _("The chat template of the base model leaves out %(part)s. Use another base model.", part=part)
                raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
            return self._text(turns, listed, prompt=True)
        except RenderError as error:
            reason = first_line(error)
            text = _("The chat template cannot render this conversation (%(reason)s).", reason=reason)
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text) from error

    def renders(self, turns: list[Turn], tools: list[Any] | None, text: str) -> bool:
        """Whether it can render a conversation, and a text is in the outcome."""
        try:
            return text in self._text(turns, tools)
        except RenderError:
            return False

    def _located(self, turns: list[Turn], tools: Any, places: Sequence[int]) -> tuple[str, list[Span]]:
        """The conversation, and the assistant's turns at these places, or what the template marks."""
        template = self._with_tools if tools else self._template
        if template in self._marking:
            text, spans, _lengths = render(template, turns, self._special, tools=tools, marked=True)
            return text, spans[-1:] if len(places) == 1 else spans
        beginnings = [beginning for place in places for beginning in ((place, True), (place + 1, False))]
        text, _marked, lengths = render(template, turns, self._special, tools=tools, beginnings=beginnings)
        return text, [
            (before, after)
            if before is not None and after is not None and before <= after
            else self._by_mark(turns, tools, place, text)
            for place, before, after in zip(places, lengths[::2], lengths[1::2], strict=True)
        ]

    def _by_mark(self, turns: list[Turn], tools: Any, place: int, text: str) -> Span:
        """Where a turn lies: from the generation prompt, as far as it is there, after the end of the turn before, to
        what follows a mark in its place."""
        mark = {"role": ASSISTANT, "content": _MARK}
        try:
            before, prompt = (self._text(turns[:place], tools, prompt=asks) for asks in (False, True))
            alone = self._text([*turns[:place], mark], tools)
            other = self._text([*turns[:place], mark, *turns[place + 1 :]], tools)
        except RenderError:
            raise _ChangesItsMindError from None
        if other.count(_MARK) != 1 or _MARK not in alone or not prompt.startswith(before):
            raise _ChangesItsMindError
        at = other.index(_MARK)
        follows, closing = other[at + len(_MARK) :], alone[alone.index(_MARK) + len(_MARK) :]
        header = other.rfind(before[-_END:], 0, at) + len(before[-_END:])
        asked = zip(prompt[len(before) :], other[header:at], strict=False)
        start = header + sum(1 for _same in takewhile(lambda pair: pair[0] == pair[1], asked))
        stop = len(text) - len(follows) + len(closing)
        fits = text[:start] == other[:start] and text.endswith(follows) and follows.startswith(closing)
        if before[-_END:] not in other[:at] or start == header or not fits:
            raise _ChangesItsMindError
        return start, stop

    def _lost(
        self, turns: list[Turn], tools: Any, text: str, spans: dict[int, Span]
    ) -> tuple[tuple[str, int] | None, set[int]]:
        """The first part that the template leaves out, and its turn; and the turns whose reasoning it leaves out
        because others follow. What is not in the text as it stands is there if the text differs without it."""
        forgotten: set[int] = set()

        def differs(place: int, field: str, upto: int | None = None) -> bool:
            less = {name: value for name, value in turns[place].items() if name != field or name == "content"}
            less |= {"content": ""} if field == "content" else {}
            try:
                without = self._text([*turns[:place], less, *turns[place + 1 :]][:upto], tools)
            except RenderError:
                return True
            return without != (text if upto is None else self._text(turns[:upto], tools))

        if tools and self._text(turns, None) == text:
            return ("tools", 0), forgotten
        for place, turn in enumerate(turns):
            own = text[slice(*spans[place])] if place in spans else ""
            content, reasoning = turn["content"].strip(), turn.get("reasoning_content", "").strip()
            if content and content not in text and not differs(place, "content"):
                return ("content", place), forgotten
            names = [call["function"]["name"] for call in turn.get("tool_calls", ())]
            if names and not all(name in own for name in names) and not differs(place, "tool_calls"):
                return ("tool_calls", place), forgotten
            if reasoning and reasoning not in own and not differs(place, "reasoning_content"):
                if not differs(place, "reasoning_content", place + 1):
                    return ("reasoning_content", place), forgotten
                forgotten.add(place)
            thoughts = content.partition("</think>")[0].removeprefix("<think>").strip() if "</think>" in content else ""
            if turn["role"] == ASSISTANT and thoughts and thoughts not in text:
                if thoughts not in self._text(turns[: place + 1], tools):
                    return ("<think>", place), forgotten
                forgotten.add(place)
        return None, forgotten

    def _text(self, turns: list[Turn], tools: Any, *, prompt: bool = False) -> str:
        template = self._with_tools if tools else self._template
        return render(template, turns, self._special, tools=tools, prompt=prompt).text


def as_rendered(message: Message) -> Turn:
    """A turn as templates take it."""
    fields = {name: value for name, value in others(message).items() if name != "train"}
    return {"role": message["role"], "content": message["content"], **fields}


def _template_of(tokenizer: PreTrainedTokenizerBase, tools: list[Any] | None) -> str:
    """The template for conversations with or without tools, since some tokenizers have two; empty without one."""
    try:
        template = str(tokenizer.get_chat_template(tools=tools))
    except ValueError:
        return ""
    return template if len(template) <= MAX_CHARACTERS else ""


def _checked(row: ChatRow) -> list[Message]:
    """The messages up to the last one of the assistant that is in the loss; later ones have no target after them."""
    messages = list(row.messages or [])
    for place, message in enumerate(messages, start=1):
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            problem = _("has no role or no content in message %(place)s", place=place)
            raise unusable(row, problem, _("Give it both, as strings"))
        if is_learnt(message) and is_empty(message):
            problem = _("has an empty assistant's turn, message %(place)s", place=place)
            raise unusable(row, problem, _("Leave the row out, or write an answer"))
    last = last_reply(messages)
    if last is None:
        problem = _("has no turn of the role %(role)r to learn from", role=ASSISTANT)
        raise unusable(row, problem, _("Add one, or leave the row out"))
    return messages[: last + 1]


class _ChangesItsMindError(Exception):
    """Rendering the first turns alone does not give a prefix of the whole conversation."""
