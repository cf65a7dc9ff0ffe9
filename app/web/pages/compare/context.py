"""The context of the page that compares any runs. All that one chooses is in its address."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.domain.comparison.confounders import Takes
from app.domain.comparison.runs import Compared, ComparedArm
from app.domain.methods import Family
from app.web.address import Address
from app.web.figures import Drawn
from app.web.figures.compared import AXES, COSTS, Cost
from app.web.format import NOTHING, capitalized, count, duration, file_size, hundred, memory, plus_minus
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.shell import Option
from app.web.text.metrics import heading
from app.web.text.runs_comparison import (
    consequence,
    delta,
    differs,
    failed,
    headline,
    interval,
    lead,
    mcnemar_words,
    told,
    verdict_word,
    why_none,
)

Sort = Literal["given", "score", "memory", "time"]
Shown = Literal["differences", "all"]
MOST_COLUMNS = 12
"""Arms whose settings stand side by side."""


@dataclass(frozen=True)
class CompareView:
    """How one looks at it."""

    cost: Cost = "memory"
    sort: Sort = "given"
    show: Shown = "differences"


@dataclass(frozen=True)
class RunLink:
    """A run of an arm."""

    id: int
    seed: int


@dataclass(frozen=True)
class ComparedRow:
    """An arm in the table."""

    title: str
    family: Family
    hollow: int
    is_reference: bool
    tags: tuple[str, ...]
    runs: tuple[RunLink, ...]
    seeds: int
    score: str
    doubt: str
    difference: str
    word: str
    peak: str
    time: str
    trainable: str
    file: str
    to_reference: str
    """The address with this arm as the reference; empty for the one that is it."""

    @property
    def run_ids(self) -> str:
        """`1,4,7`."""
        return ",".join(str(run.id) for run in self.runs)


@dataclass(frozen=True)
class Remark:
    """Something that makes them incomparable."""

    takes: Takes
    differs: str
    consequence: str
    whom: str


@dataclass(frozen=True)
class SettingRow:
    """A setting, with its value for each arm."""

    name: str
    values: tuple[str, ...]
    differs: bool


@dataclass(frozen=True)
class SettingsTable:
    """How the arms were made."""

    arms: tuple[str, ...]
    rows: tuple[SettingRow, ...]
    copies: tuple[str, ...]
    """The rows of each arm, as JSON."""
    same: int
    """Settings that are the same for all, and may be left out."""


@dataclass(frozen=True)
class ComparePage:
    """Any runs held against each other."""

    address: Address
    view: CompareView
    headline: str
    lead: str
    measure: str
    interval: str
    """What ± is."""
    margin_points: str
    """As it is typed."""
    rows: tuple[ComparedRow, ...]
    remarks: tuple[Remark, ...]
    mcnemar: str
    figure: Drawn
    costs: tuple[Option, ...]
    settings: SettingsTable | None
    """None for more arms than stand side by side."""
    notices: tuple[str, ...]
    """What was asked for and is not there."""
    others: tuple[Option, ...]
    """Runs that one may add."""
    ids: tuple[int, ...]

    @classmethod
    def of(
        cls,
        found: Compared,
        *,
        address: Address,
        view: CompareView,
        figure: Drawn,
        missing: tuple[int, ...],
        stray_reference: int | None,
        study_names: Mapping[int, str],
        others: tuple[Option, ...],
    ) -> "ComparePage":
        """From what was weighed and drawn."""
        ids = tuple(run.run_id for run in found.runs)
        return cls(
            address=address,
            view=view,
            headline=headline(found),
            lead=lead(found),
            measure=heading(found.metric),
            interval=interval(found),
            margin_points=f"{round(found.margin * 100, 6):g}",
            rows=tuple(_row(arm, address, study_names) for arm in ordered(found.arms, view.sort)),
            remarks=tuple(
                Remark(o.takes, differs(o, len(found.arms)), consequence(o), told(o, len(found.arms)))
                for o in found.obstacles
            ),
            mcnemar=mcnemar_words(found.mcnemar, _other(found), found.reference.title) if found.mcnemar else "",
            figure=figure,
            costs=tuple(Option(cost, capitalized(_(AXES[cost].title)), cost == view.cost) for cost in COSTS),
            settings=_settings(found, view.show) if 1 < len(found.arms) <= MOST_COLUMNS else None,
            notices=tuple(filter(None, (_missing(missing), _stray(stray_reference, found)))),
            others=others,
            ids=ids,
        )

    @property
    def margin(self) -> str:
        """`1 point`, `2.5 points`."""
        number = self.margin_points
        return _("%(number)s point", number=number) if number == "1" else _("%(number)s points", number=number)

    @property
    def several(self) -> bool:
        """There are some to choose among."""
        return len(self.rows) > 2

    @property
    def many(self) -> bool:
        """So many arms that the picture says more than the table, and comes first."""
        return len(self.rows) > MOST_COLUMNS

    @property
    def alone(self) -> bool:
        """There is nothing to hold it against."""
        return len(self.rows) < 2

    def sorted_by(self, sort: Sort) -> str:
        """The address of the same in another order."""
        return self.address.to({"sort": "" if sort == "given" else sort}, "arms")

    @property
    def toggled(self) -> str:
        """The address with all settings, or with the differences only."""
        return self.address.to({"show": "all" if self.view.show == "differences" else ""}, "settings")

    def adding(self, run: str) -> str:
        """The address with one run more."""
        return Address("/compare", (("runs", ",".join([*map(str, self.ids), run])),)).to({})


@dataclass(frozen=True)
class NothingCompared:
    """The page before a run is chosen."""

    missing: str


def nothing(missing: tuple[int, ...]) -> NothingCompared:
    """Where no run is named, or none of them is there."""
    return NothingCompared(_missing(missing))


def ordered(arms: tuple[ComparedArm, ...], sort: Sort) -> list[ComparedArm]:
    """Best first, those without the number last; as asked for unless an order is named."""

    def key(arm: ComparedArm) -> tuple[bool, float]:
        match sort:
            case "score":
                return arm.score is None, -arm.score.mean if arm.score else 0.0
            case "memory":
                spread = arm.costs.get("peak_bytes")
            case _:
                spread = arm.costs.get("train_seconds")
        return spread is None, spread.mean if spread else 0.0

    return list(arms) if sort == "given" else sorted(arms, key=key)


def _row(arm: ComparedArm, address: Address, study_names: Mapping[int, str]) -> ComparedRow:
    own, first = arm.score, arm.first
    even = own and own.low is not None and own.high is not None
    peak, time = arm.costs.get("peak_bytes"), arm.costs.get("train_seconds")
    trains, file = arm.costs.get("trainable_parameters"), arm.costs.get("file_bytes")
    where = sorted({run.study_id for run in arm.runs if run.study_id})
    tags = [_("imported: %(collection)s", collection=first.collection)] if arm.imported else []
    tags += [study_names.get(study, _("study %(id)s", id=study)) for study in where]
    return ComparedRow(
        title=arm.title,
        family=arm.family,
        hollow=arm.hollow,
        is_reference=arm.is_reference,
        tags=tuple(tags),
        runs=tuple(RunLink(run.run_id, run.seed) for run in arm.runs),
        seeds=arm.seeds,
        score=hundred(own.mean) if own else _state(arm),
        doubt=plus_minus((own.high - own.low) / 2)
        if even and own and own.high is not None and own.low is not None
        else "",
        difference=delta(arm.against),
        word=why_none(arm.against) or verdict_word(arm.against),
        peak=memory(peak.mean) if peak else NOTHING,
        time=duration(time.mean) if time else NOTHING,
        trainable=count(round(trains.mean)) if trains else NOTHING,
        file=file_size(file.mean) if file else NOTHING,
        to_reference="" if arm.is_reference else address.to({"reference": first.run_id}, "arms"),
    )


def _state(arm: ComparedArm) -> str:
    return failed(arm) or (arm.first.status.value if len(arm.runs) == 1 else NOTHING)


def _settings(found: Compared, show: Shown) -> SettingsTable:
    differing = found.differing()
    shown = differing if show == "differences" else found.settings
    rows = tuple(
        SettingRow(name, tuple(value or NOTHING for value in values), name in differing)
        for name, values in sorted(shown.items())
    )
    copies = [
        json.dumps(
            {row.name: row.values[place] for row in rows if row.values[place] != NOTHING}, indent=2, ensure_ascii=False
        )
        for place in range(len(found.arms))
    ]
    titles = tuple(arm.title for arm in found.arms)
    return SettingsTable(titles, rows, tuple(copies), len(found.settings) - len(differing))


def _other(found: Compared) -> str:
    return next(arm.title for arm in found.arms if not arm.is_reference)


def _stray(run: int | None, found: Compared) -> str:
    if run is None:
        return ""
    return _("Run %(run)s is not among them, so %(arm)s is the reference.", run=run, arm=found.reference.title)


def _missing(missing: tuple[int, ...]) -> str:
    if not missing:
        return ""
    numbers = ", ".join(map(str, missing[:10]))
    return ngettext("There is no run %(numbers)s.", "There are no runs %(numbers)s.", len(missing), numbers=numbers)
