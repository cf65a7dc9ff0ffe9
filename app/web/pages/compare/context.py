"""The page that compares any runs. All choices are in its address."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.comparison.runs import RunArm, RunComparison
from app.services.compare import Selected
from app.web.address import Address
from app.web.figures.arms_table import ArmsTable
from app.web.figures.axes import axis_options
from app.web.figures.figure import Drawn
from app.web.format import NOTHING, capitalized
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.shell import Option
from app.web.text.confounders import affected_arms, consequence, what_differs
from app.web.text.headline import mcnemar_text, runs_headline, runs_lead
from app.web.text.verdict import margin_text

MOST_COLUMNS = 12
"""Arms whose settings stand side by side."""


@dataclass(frozen=True)
class SettingsTable:
    """How the arms were made: every setting, or those that differ."""

    arms: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]
    """Values by setting, one for each arm."""
    differing: frozenset[str]
    copies: tuple[str, ...]
    """The rows of each arm, as JSON."""
    same: int
    """Settings that are the same for all."""

    @classmethod
    def of(cls, comparison: RunComparison, *, everything: bool) -> "SettingsTable":
        """From the first run of each arm."""
        differing = comparison.differing_settings
        shown = dict(sorted((comparison.settings if everything else differing).items()))
        copies = [
            {name: values[place] for name, values in shown.items() if values[place]}
            for place in range(len(comparison.arms))
        ]
        return cls(
            arms=tuple(arm.title for arm in comparison.arms),
            rows={name: tuple(value or NOTHING for value in values) for name, values in shown.items()},
            differing=frozenset(differing),
            copies=tuple(json.dumps(copy, indent=2, ensure_ascii=False) for copy in copies),
            same=len(comparison.settings) - len(differing),
        )


@dataclass(frozen=True)
class ComparePage:
    """Any runs, compared."""

    selected: Selected
    comparison: RunComparison
    address: Address
    x: str
    y: str
    """Axes of the trade-off."""
    show_all: bool
    """All settings, not only those that differ."""
    table: ArmsTable
    figure: Drawn
    others: tuple[Option, ...]
    """Runs to add."""

    @property
    def headline(self) -> str:
        """What the comparison comes to."""
        return runs_headline(self.comparison)

    @property
    def lead(self) -> str:
        """What the verdicts rest on."""
        return runs_lead(self.comparison)

    @property
    def mcnemar(self) -> str:
        """The test of two single runs."""
        test = self.comparison.mcnemar
        return mcnemar_text(test, self.comparison) if test else ""

    @property
    def confounders(self) -> list[tuple[str, str, str]]:
        """What differs, what that rules out, and for which arms."""
        return [
            (capitalized(what_differs(c, self.comparison)), consequence(c), affected_arms(c, self.comparison))
            for c in self.comparison.confounders
        ]

    @property
    def notices(self) -> list[str]:
        """What was selected and does not exist."""
        replaced, reference = self.selected.replaced_reference, self.comparison.reference.title
        text = _("Run %(run)s is not among them, so %(arm)s is the reference.", run=replaced, arm=reference)
        return [notice for notice in (missing_text(self.selected.missing), text if replaced else "") if notice]

    @property
    def margin(self) -> str:
        """`1 point`, `2.5 points`."""
        return margin_text(self.comparison)

    @property
    def margin_points(self) -> str:
        """As it is typed."""
        return f"{round(self.comparison.margin * 100, 6):g}"

    @property
    def axes(self) -> tuple[tuple[str, str], ...]:
        """Values and titles of the axes that the trade-off may have."""
        return axis_options(self.comparison, self.x, self.y)

    @property
    def alone(self) -> bool:
        """There is nothing to compare it with."""
        return len(self.comparison.arms) < 2

    @property
    def many(self) -> bool:
        """So many arms that the chart says more than the table, and comes first."""
        return len(self.comparison.arms) > MOST_COLUMNS

    @property
    def settings(self) -> SettingsTable | None:
        """None for more arms than stand side by side."""
        return None if self.many else SettingsTable.of(self.comparison, everything=self.show_all)

    def tags(self, arm: RunArm) -> list[str]:
        """Where an arm comes from."""
        studies = sorted({run.study_id for run in arm.runs if run.study_id})
        imported = [_("imported: %(collection)s", collection=arm.first.collection)] if arm.imported else []
        return imported + [self.selected.study_names.get(i, _("study %(id)s", id=i)) for i in studies]

    def as_reference(self, arm: RunArm) -> str:
        """The address with this arm as the reference."""
        return self.address.to({"reference": arm.first.run_id}, "arms")

    @property
    def toggled(self) -> str:
        """The address with all settings, or with the differing ones only."""
        return self.address.to({"show": "" if self.show_all else "all"}, "settings")

    def adding(self, run: str) -> str:
        """The address with one run more."""
        ids = [str(own.run_id) for own in self.comparison.runs]
        return Address("/compare", (("runs", ",".join([*ids, run])),)).to({})


@dataclass(frozen=True)
class NothingCompared:
    """The page before a run is selected."""

    missing: str


def missing_text(missing: tuple[int, ...]) -> str:
    """Which runs do not exist."""
    if not missing:
        return ""
    numbers = ", ".join(map(str, missing[:10]))
    return ngettext("There is no run %(numbers)s.", "There are no runs %(numbers)s.", len(missing), numbers=numbers)
