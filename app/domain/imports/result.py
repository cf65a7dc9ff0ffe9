"""An imported result: a measurement made outside Vezna, in JSON.

It becomes a run that is marked as imported. Vezna measured none of it, so it enters no study's verdict; a comparison
(`app.domain.comparison.runs`) states next to it what it rests on. docs/imports.md describes the format.
"""

from collections.abc import Iterable, Mapping
from math import isclose
from reprlib import repr as short
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from app.domain.imports.facts import Fraction, TrainingFacts, as_number, check_method
from app.domain.messages import _
from app.domain.methods import METHODS, Family
from app.domain.runs.training import Seed
from app.domain.validation import Key, Name, invalid_field

MOST_ITEMS = 1_000_000
ROUNDING = 5e-4
"""A score and the mean of its items' scores may differ by rounding."""


class OutsideRun(TrainingFacts):
    """A fine-tuning run elsewhere, imported from a file or reported by a script: its arm, its score and its costs."""

    label: Name = Field(max_length=60)
    """The method's name for people: `LoRA r=32`."""
    method: Name | None = Field(default=None, max_length=40)
    """Its kind: a method of Vezna (`lora`, `full`), or another word together with a `family`."""
    family: Family | None = None
    """It decides the colour and the marker in charts; follows from `method` if that is a method of Vezna."""
    metric: Name = Field(default="accuracy", max_length=20)
    """Name of the metric; higher is better."""
    score: Fraction | None = None
    """Mean over the test items, as a fraction; None while it trains."""
    items: Annotated[int, Field(ge=1, le=MOST_ITEMS), BeforeValidator(as_number)] | None = None
    """Number of test items; without it there is no interval."""
    test_set: Name | None = Field(default=None, max_length=200)
    """Which test items: `GSM8K test`. Results are compared only if they share a test set."""
    seed: Seed

    @model_validator(mode="after")
    def _method_is_known(self) -> "OutsideRun":
        check_method(self.method, self.family)
        return self

    @property
    def kind(self) -> str:
        """The method's kind, for filters."""
        return self.method or f"other {self.family}"

    @property
    def its_family(self) -> Family:
        """It decides the colour and the marker in charts."""
        if self.family is not None:
            return self.family
        assert self.method is not None  # noqa: S101  (or it has a family)
        return METHODS[self.method].family

    @property
    def n(self) -> int | None:
        """Number of test items."""
        return self.items


class ImportedResult(OutsideRun):
    """The contents of a file: a run that has ended with a score."""

    score: Fraction
    """Mean over the test items, as a fraction."""
    item_scores: dict[str, Fraction] | None = None
    """Score by item name, in the order of the test set; it allows a paired comparison."""
    item_groups: dict[str, Key] | None = None
    """The group of each item that shares one with others (user, document, template, equal input), by item name: the
    intervals count a group as one cluster."""
    source: Name = Field(max_length=500)
    """The source: a URL, a paper, a file."""

    @field_validator("item_scores")
    @classmethod
    def _items_have_names(cls, scores: dict[str, float] | None) -> dict[str, float] | None:
        if scores is not None and not 1 <= len(scores) <= MOST_ITEMS:
            raise invalid_field(
                "",
                _("item_scores has %(scores)s items", scores=len(scores)),
                _("Give 1 to %(most)s items, or leave item_scores out", most=MOST_ITEMS),
            )
        check_item_names(scores or ())
        return scores

    @model_validator(mode="after")
    def _it_fits_together(self) -> "ImportedResult":
        check_item_groups(self.item_groups, self.item_scores)
        if self.item_scores is not None:
            mean = sum(self.item_scores.values()) / len(self.item_scores)
            if self.items not in (None, len(self.item_scores)):
                what = _(
                    "items is %(items)s, but item_scores has %(item_scores)s items",
                    items=self.items,
                    item_scores=len(self.item_scores),
                )
                raise invalid_field("items", what, _("Leave items out, or correct item_scores"))
            if not isclose(mean, self.score, abs_tol=ROUNDING):
                what = _("The score is %(score)g, but the mean of item_scores is %(mean)g", score=self.score, mean=mean)
                raise invalid_field("score", what, _("Give the mean of item_scores"))
        return self

    @property
    def n(self) -> int | None:
        """Number of test items."""
        return len(self.item_scores) if self.item_scores is not None else self.items


def check_item_groups(groups: Mapping[str, str] | None, scores: Mapping[str, float] | None) -> None:
    """Raise a field error for the group of an item that has no score."""
    stray = next((name for name in groups or () if name not in (scores or ())), None)
    if stray is not None:
        what = _("item_groups names %(name)s, which has no score", name=short(stray))
        raise invalid_field("item_groups", what, _("Name items of item_scores, each with its group"))


def check_item_names(names: Iterable[str]) -> None:
    """Raise a field error for a name of a test item that cannot be shown."""
    for name in names:
        if not name.strip() or not name.isprintable():
            what = _("The item name %(name)s is empty or not printable", name=short(name))
            raise invalid_field("", what, _("Give each item a printable name"))
