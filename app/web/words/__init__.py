"""What a study says, in sentences: for the list, the head of its page, and what to read it with."""

from app.web.words.caveats import Caveat, caveats
from app.web.words.facts import Fact, facts
from app.web.words.headline import headline, phrase
from app.web.words.lead import lead, more_seeds_help, seeds_needed, what_would_decide
from app.web.words.parts import WORDS, focus
from app.web.words.plain import plain

__all__ = [
    "WORDS",
    "Caveat",
    "Fact",
    "caveats",
    "facts",
    "focus",
    "headline",
    "lead",
    "more_seeds_help",
    "phrase",
    "plain",
    "seeds_needed",
    "what_would_decide",
]
