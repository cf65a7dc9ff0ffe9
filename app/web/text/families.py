"""The families of methods in words: what a heading over them says."""

from typing import get_args

from app.domain.methods import METHODS, Family, MethodFacts
from app.web.i18n import gettext as _
from app.web.i18n import marked

FAMILIES: dict[Family, str] = {
    "full": marked("Everything trains"),
    "lora": marked("LoRA: two thin matrices beside a layer"),
    "low-rank": marked("Other updates of few numbers"),
    "scaling": marked("Layers stretched or rotated"),
    "adapter": marked("Small networks between layers"),
    "prompt": marked("Virtual tokens before the text"),
    "partial": marked("A part of the model trains"),
    "head": marked("Only the new head trains"),
}
"""In the order in which a form offers them."""


def by_family() -> list[tuple[Family, str, list[MethodFacts]]]:
    """Every method below the heading of its family."""
    ordered = [*FAMILIES, *(family for family in get_args(Family) if family not in FAMILIES)]
    grouped = [(family, [m for m in METHODS.values() if m.family == family]) for family in ordered]
    return [(family, _(FAMILIES.get(family, family)), methods) for family, methods in grouped if methods]
