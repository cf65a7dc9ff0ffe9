"""The page that compares any runs. All choices are in its address."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.comparison.runs import RunComparison
from app.services.comparison.compare import Selected
from app.store.tables import RunRow
from app.web.address import Address
from app.web.figures.drawing.axes import axis_options
from app.web.figures.figure import Drawn
from app.web.figures.studies.arms_table import ArmsTable
from app.words.studies.power import alternative_options

MOST_COLUMNS = 12
"""Arms whose settings stand side by side."""


@dataclass(frozen=True)
class ComparePage:
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
    others: Sequence[RunRow]
    declared: int | None = None
    """The study elsewhere that all its runs are of."""

    @property
    def axes(self) -> tuple[tuple[str, str], ...]:
        """Values and titles of the axes that the trade-off may have."""
        return axis_options(self.comparison, self.x, self.y)

    @property
    def alternatives(self) -> list[tuple[str, str]]:
        """What the comparison can test, with titles."""
        return alternative_options()

    @property
    def reported(self) -> bool:
        """Runs of it were trained elsewhere."""
        return any(arm.reported for arm in self.comparison.arms)

    @property
    def alone(self) -> bool:
        """There is nothing to compare it with."""
        return len(self.comparison.arms) < 2

    @property
    def many(self) -> bool:
        """So many arms that the chart says more than the table, and comes first; their settings are not listed."""
        return len(self.comparison.arms) > MOST_COLUMNS

    @property
    def settings(self) -> dict[str, tuple[str, ...]]:
        """The settings that are shown: values by name, one for each arm."""
        return dict(sorted((self.comparison.settings if self.show_all else self.comparison.differing_settings).items()))

    def settings_of(self, place: int) -> str:
        """Of one arm, as JSON to copy."""
        own = {name: values[place] for name, values in self.settings.items() if values[place]}
        return json.dumps(own, indent=2, ensure_ascii=False)
