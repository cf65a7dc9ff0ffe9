"""What a method says of itself, in the request's language: its name, what it does, what it counts, whose it is."""

from app.domain.methods import MethodFacts
from app.web.format import capitalized
from app.web.i18n import gettext as _


def name(facts: MethodFacts) -> str:
    """`LoRA`, `head only`."""
    return _(facts.name)


def summary(facts: MethodFacts) -> str:
    """What it does, as a sentence."""
    return f"{capitalized(_(facts.summary))}."


def formula(facts: MethodFacts) -> str:
    """How many parameters train, beside the new head: `Σ r·(in + out) over the adapted layers`."""
    return _(facts.formula)


def papers(facts: MethodFacts) -> list[tuple[str, str]]:
    """Who proposed it, and where that can be read: `Hu et al. 2021, arXiv 2106.09685` and its address."""
    return [(paper, f"https://arxiv.org/abs/{paper.rpartition(' ')[2]}") for paper in facts.paper.split("; ")]
