"""The prompt and the answers of a preference pair, where a source has them in one text or in one conversation."""

from collections.abc import Sequence
from itertools import takewhile

from app.domain.data.dataset import Message
from app.domain.data.findings import FindingCode

ASSISTANT = "assistant"
DIALOGUE = "\n\nAssistant:"
"""Where an answer begins in dialogues as one text, such as those of Anthropic's hh-rlhf."""


def text_pair(prompt: str, chosen: str, rejected: str) -> tuple[str, str, str] | FindingCode:
    """Prompt and answers. Without a prompt it is the beginning that both answers share, up to the last `DIALOGUE` in it
    or, as TRL takes it, up to the first difference, whose space belongs to the answers."""
    if not prompt.strip():
        pairs = zip(chosen, rejected, strict=False)
        prompt = "".join(one for one, _other in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if DIALOGUE in prompt:
            prompt = prompt[: prompt.rindex(DIALOGUE) + len(DIALOGUE)]
        elif prompt.endswith(" "):
            prompt = prompt[:-1]
        if not prompt.strip():
            return "no-prompt"
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    if not chosen.strip() or not rejected.strip():
        return "broken-pairs"
    return (prompt, chosen, rejected) if chosen != rejected else "equal-answers"


def chat_pair(
    prompt: Sequence[Message] | str, chosen: Sequence[Message], rejected: Sequence[Message]
) -> tuple[list[Message], str, str] | FindingCode:
    """A conversation and two next turns of the assistant. `prompt`: its turns, its one user turn, or nothing where both
    conversations begin with it."""
    if list(chosen) == list(rejected):
        return "equal-answers"
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    before: list[Message] = list(chosen[:shared])
    if not before:
        before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) and prompt.strip() else []
        before = list(prompt) if not isinstance(prompt, str) else before
    if not before:
        return "no-prompt"
    answers = [*chosen[shared:]], [*rejected[shared:]]
    if any(len(turns) != 1 or turns[0]["role"] != ASSISTANT or not turns[0]["content"].strip() for turns in answers):
        return "broken-pairs"
    return before, answers[0][0]["content"], answers[1][0]["content"]
