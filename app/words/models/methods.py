"""Methods and their families: name, summary, number of parameters, papers."""

from collections.abc import Collection
from typing import get_args

from app.domain.methods import METHODS, Family, MethodFacts
from app.words.format import capitalized
from app.words.i18n import gettext as _
from app.words.i18n import marked

FAMILIES: dict[Family, str] = {
    "full": marked("Full fine-tuning"),
    "lora": marked("LoRA: a low-rank update of each target module"),
    "low-rank": marked("Other low-rank updates"),
    "scaling": marked("Scaling and rotation of activations"),
    "adapter": marked("Bottleneck adapters"),
    "prompt": marked("Prompt, prefix and p-tuning"),
    "partial": marked("Selected parameters"),
    "head": marked("Linear probe"),
}
"""In the order of a form."""


def by_family(kinds: Collection[str] = METHODS) -> list[tuple[Family, str, list[MethodFacts]]]:
    """The methods of every family, with its title; `kinds` leaves others out."""
    ordered = [*FAMILIES, *(family for family in get_args(Family) if family not in FAMILIES)]
    grouped = [
        (family, [METHODS[k] for k in METHODS if k in kinds and METHODS[k].family == family]) for family in ordered
    ]
    return [(family, _(FAMILIES.get(family, family)), methods) for family, methods in grouped if methods]


def name(facts: MethodFacts) -> str:
    """`LoRA`, `head only`."""
    return _(facts.name)


def method_summary(facts: MethodFacts) -> str:
    return f"{capitalized(_(facts.summary))}."


def papers(facts: MethodFacts) -> list[tuple[str, str]]:
    """Its papers and their addresses: `Hu et al. 2021, arXiv 2106.09685` and its address."""
    return [(paper, f"https://arxiv.org/abs/{paper.rpartition(' ')[2]}") for paper in facts.paper.split("; ")]


FILTERS = (method_summary, papers)
"""What templates may use, under their own names."""
