"""The prompt and the answers of a preference pair, where a source has them in one text or in one conversation."""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from app.domain.data.findings import FindingCode
from app.domain.data.turns import ASSISTANT, Message, is_empty

DIALOGUE = "\n\nAssistant:"
"""Where an answer begins in dialogues as one text, such as those of Anthropic's hh-rlhf."""
_PART_OF_WORD = re.compile(r"\w+\Z")


class TextPair(NamedTuple):
    prompt: str
    chosen: str
    rejected: str
    guessed: bool = False
    """The prompt is a shared beginning without a mark of its end, which the beginning of the answers may be part of."""


def text_pair(prompt: str | None, chosen: str, rejected: str) -> TextPair | FindingCode:
    """Prompt and answers. Without a prompt column (None) it is the beginning that both answers share: up to the last
    `DIALOGUE`, after which neither text may have another turn, or else up to a word that is not shared. The space
    before that word belongs to the answers, as in TRL, which cuts within words."""
    if chosen == rejected:
        return "equal-answers"
    guessed = False
    if prompt is None:
        pairs = zip(chosen, rejected, strict=False)
        prompt = "".join(one for one, _other in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if DIALOGUE in prompt:
            prompt = prompt[: prompt.rindex(DIALOGUE) + len(DIALOGUE)]
            if DIALOGUE in chosen[len(prompt) :] + rejected[len(prompt) :]:
                return "broken-pairs"
        else:
            prompt = _PART_OF_WORD.sub("", prompt).removesuffix(" ")
            guessed = True
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    if not prompt.strip():
        return "no-prompt"
    if not chosen.strip() or not rejected.strip():
        return "broken-pairs"
    return TextPair(prompt, chosen, rejected, guessed)


def chat_pair(
    prompt: Sequence[Message] | str, chosen: Sequence[Message], rejected: Sequence[Message]
) -> tuple[list[Message], Message, Message] | FindingCode:
    """A conversation and two next turns of the assistant. `prompt`: its first turns, its one user turn, or nothing.
    The turns that both answers begin with follow it, unless they repeat it, or its last turns."""
    if list(chosen) == list(rejected):
        return "equal-answers"
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    before: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) and prompt.strip() else []
    before = _joined(before if isinstance(prompt, str) else list(prompt), list(chosen[:shared]))
    if not before:
        return "no-prompt"
    answers = [*chosen[shared:]], [*rejected[shared:]]
    if any(len(turns) != 1 or turns[0]["role"] != ASSISTANT or is_empty(turns[0]) for turns in answers):
        return "broken-pairs"
    return before, answers[0][0], answers[1][0]


def _joined(prompt: list[Message], shared: list[Message]) -> list[Message]:
    """The turns of a prompt and those after it, which may repeat all of it or its last ones."""
    first, second = (
        [(turn["role"], turn["content"].strip(), turn.get("more")) for turn in turns] for turns in (prompt, shared)
    )
    if any(second[place : place + len(first)] == first for place in range(len(second) - len(first) + 1)):
        return shared
    repeated = max(n for n in range(min(len(first), len(second)) + 1) if first[len(first) - n :] == second[:n])
    return [*prompt, *shared[repeated:]]
