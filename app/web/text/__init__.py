"""What a study says, in sentences: for the list, the head of its page, and what to read it with."""

from app.web.text.caveats import Caveat, caveats
from app.web.text.facts import Fact, facts
from app.web.text.headline import headline, phrase
from app.web.text.lead import lead, more_seeds_help, seeds_needed, what_would_decide
from app.web.text.summary import plain
from app.web.text.verdict import VERDICT_LABELS

__all__ = [
    "VERDICT_LABELS",
    "Caveat",
    "Fact",
    "caveats",
    "facts",
    "headline",
    "lead",
    "more_seeds_help",
    "phrase",
    "plain",
    "seeds_needed",
    "what_would_decide",
]
