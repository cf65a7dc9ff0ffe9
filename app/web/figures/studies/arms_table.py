"""The table of arms, of a study or of any runs: what each reached and cost, which are best, and in which order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.domain.comparison.baselines import BaselineResult, has_zero_shot
from app.domain.comparison.model import AnyComparison, ArmResult
from app.domain.comparison.study import StudyComparison
from app.web.address import Address
from app.web.figures.drawing.axes import AXES
from app.web.figures.drawing.references import DASHES
from app.web.figures.resources.memory import holders
from app.web.figures.resources.parts import Holder
from app.web.figures.studies.arms_columns import COLUMNS, Cell
from app.words.data.baselines import baseline_remarks
from app.words.format import NOTHING, hundred
from app.words.i18n import gettext as _
from app.words.i18n import stored
from app.words.verdict.verdict import difference_interval, plus_minus_text, score_reach

SORTS = ("arm", *COLUMNS)
"""What the table sorts by, as the address names it; with a minus the largest comes first."""


@dataclass(frozen=True)
class Head:
    """The head of a column, which sorts."""

    name: str
    title: str
    unit: str
    href: str
    """The same page in this column's order; reversed where that is the current one."""
    active: bool
    num: bool


@dataclass(frozen=True)
class Yardstick:
    """What arms are measured against: it was not trained in the study, and has no seeds."""

    title: str
    note: str
    cells: tuple[Cell, ...]
    """In the order of the columns."""
    dash: int = 0
    """Number of a baseline's dash, from 1."""


@dataclass(frozen=True)
class ArmsTable:
    heads: tuple[Head, ...]
    falls: bool
    """From the largest value of the column that it is sorted by."""
    rows: tuple[tuple[ArmResult, tuple[Cell, ...]], ...]
    """Arms with their cells in the order of the columns."""
    yardsticks: tuple[Yardstick, ...]
    """The base model before training where it was evaluated, then the study's baselines."""
    remarks: tuple[str, ...]
    """Why baselines could not be computed, or that they learned from a sample."""
    key: Sequence[Holder]
    """The legend of the memory bars."""
    forgetting: bool
    interval: str
    """What ± stands for."""
    unsorted: str
    """The address of the original order; empty where that is the current one."""

    @classmethod
    def of(cls, comparison: AnyComparison, address: Address, sort: str) -> "ArmsTable":
        """In the order of a column: `memory`, or `-memory` for the largest first."""
        study = comparison if isinstance(comparison, StudyComparison) else None
        forgetting = any(map(AXES["forgetting"].spread, comparison.arms))
        names = [name for name in COLUMNS if name != "forgetting" or forgetting]
        return cls(
            heads=tuple(_head(name, comparison, address, sort) for name in ("arm", *names)),
            falls=sort.startswith("-"),
            rows=tuple(
                (arm, tuple(COLUMNS[name].cell(comparison, arm) for name in names))
                for arm in sorted_arms(comparison.arms, sort)
            ),
            yardsticks=tuple(_yardsticks(study, names)) if study else (),
            remarks=tuple(baseline_remarks(study)) if study else (),
            key=holders(study) if study else (),
            forgetting=forgetting,
            interval=plus_minus_text(comparison),
            unsorted=address.to({"sort": ""}, "arms") if sort else "",
        )


def sorted_arms(arms: Sequence[ArmResult], sort: str) -> list[ArmResult]:
    """Arms by a column; those without a value last either way, equal ones in the original order."""
    name, falls = sort.removeprefix("-"), sort.startswith("-")
    if not sort:
        return list(arms)
    if name == "arm":
        return sorted(arms, key=lambda arm: arm.title.casefold(), reverse=falls)
    value = COLUMNS[name].value
    known = sorted((arm for arm in arms if value(arm) is not None), key=lambda arm: value(arm) or 0.0, reverse=falls)
    return known + [arm for arm in arms if value(arm) is None]


def _yardsticks(study: StudyComparison, names: Sequence[str]) -> Iterator[Yardstick]:
    if study.base_score is not None and not has_zero_shot(study.baselines):
        base = {
            "score": Cell(hundred(study.base_score.mean), score_reach(study.base_score)),
            "difference": Cell(difference_interval(study.base_difference) if study.base_difference else NOTHING),
            "trainable": Cell("0"),
        }
        yield Yardstick(_("base model"), _("before training"), tuple(base.get(name, Cell("")) for name in names))
    for place, baseline in enumerate(study.baselines):
        cells = {"score": _baseline_score(baseline), "difference": _baseline_difference(baseline)}
        row = tuple(cells.get(name, Cell("")) for name in names)
        note = _(baseline.facts.note)
        if baseline.stored.status == "not_applicable":
            note = _("not applicable: %(why)s", why=stored(baseline.stored.message))
        yield Yardstick(_(baseline.title), note, row, dash=place % len(DASHES) + 1)


def _baseline_score(baseline: BaselineResult) -> Cell:
    if baseline.score is None:
        return Cell(
            NOTHING, note={"working": _("in progress"), "failed": _("not computed")}.get(baseline.stored.status, "")
        )
    return Cell(hundred(baseline.score.mean), score_reach(baseline.score))


def _baseline_difference(baseline: BaselineResult) -> Cell:
    if baseline.difference is None:
        return Cell(NOTHING)
    return Cell(difference_interval(baseline.difference), note="" if baseline.beaten else _("not beaten"))


def _head(name: str, comparison: AnyComparison, address: Address, sort: str) -> Head:
    column = COLUMNS.get(name)
    first = f"-{name}" if column and column.falls else name
    reverse = name if first.startswith("-") else f"-{name}"
    return Head(
        name=name,
        title=column.title(comparison) if column else _("Arm"),
        unit=column.unit(comparison) if column else "",
        href=address.to({"sort": reverse if sort == first else first}, "arms"),
        active=sort.removeprefix("-") == name,
        num=name != "arm" and not (name == "memory" and isinstance(comparison, StudyComparison)),  # there it has a bar
    )
