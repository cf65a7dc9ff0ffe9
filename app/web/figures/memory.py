"""The peak memory of a study's arms by owner: measured, with the estimate below it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain.comparison.costs import Costs
from app.domain.comparison.study import StudyComparison
from app.domain.resources.calibration import relative_error
from app.web.figures.drawing import stacks
from app.web.figures.drawing.stacks import Bar, Stacks
from app.web.figures.figure import Cell, Column, Figure, Key, Table
from app.web.figures.resource_parts import (
    COMPUTED,
    LEDGER,
    EstimatedCosts,
    Holder,
    Sizes,
    computed_sizes,
    estimated_cells,
    estimated_columns,
    ledger_sizes,
    legend,
    memory_bar,
    names,
)
from app.web.format import capitalized, mib, signed_percent
from app.web.format import memory as bytes_text
from app.web.i18n import gettext as _
from app.web.text.verdict import arm_name

Estimates = Mapping[str, EstimatedCosts]
"""By arm."""


def memory(study: StudyComparison, estimates: Estimates) -> Figure:
    """The peak of each arm, and what holds it."""
    known = estimates if has_ledgers(study) else {}
    bars = _bars(study, known)
    return Figure(
        name="memory",
        title=_title(study),
        label=_("Peak memory by owner, one bar per arm"),
        note=_note(study, estimated=bool(known)) if bars else "",
        data=Stacks(bars, _("MiB above the idle process, at the peak →")),
        draw=stacks.chart,
        table=_table(study, known),
        empty="" if bars else _("No run has a result yet."),
    )


def has_ledgers(study: StudyComparison) -> bool:
    """Every arm that has a result has a ledger."""
    return all(arm.costs.owner_bytes for arm in study.arms if arm.costs)


def holders(study: StudyComparison) -> Sequence[Holder]:
    """What the study's bars are split into."""
    return LEDGER if has_ledgers(study) else COMPUTED


def sizes(study: StudyComparison, costs: Costs) -> Sizes:
    """Bytes of each holder in an arm at its measured peak."""
    if not has_ledgers(study):
        return computed_sizes(costs)
    return ledger_sizes(costs.owner_bytes or {}, costs.train_peak_bytes, costs.peak_bytes.mean)


def key(study: StudyComparison) -> tuple[Key, ...]:
    """The legend of the bars in the table of arms."""
    return legend(holders(study))


def split(study: StudyComparison, costs: Costs) -> list[tuple[str, float]]:
    """An arm's bar in the table of arms: classes and bytes."""
    return [(holder.css, size) for holder, size in zip(holders(study), sizes(study, costs), strict=True)]


@dataclass(frozen=True)
class OwnerRow:
    """An owner's bytes over the arms, as they are written."""

    name: str
    cells: tuple[str, ...]
    total: bool = False


def owner_rows(study: StudyComparison, estimates: Estimates) -> tuple[OwnerRow, ...]:
    """What each owner holds in each arm, the measured peak, and the estimated one with its error where there is one."""
    costs = [(arm.title, arm.costs) for arm in study.arms if arm.costs]
    by_arm = [sizes(study, own) for _arm, own in costs]
    rows = [
        OwnerRow(name, tuple(mib(arm[place], 1) for arm in by_arm)) for place, name in enumerate(names(holders(study)))
    ]
    rows.append(OwnerRow(_("measured peak"), tuple(mib(own.peak_bytes.mean, 1) for _arm, own in costs), total=True))
    estimated = [estimates.get(arm) for arm, _costs in costs] if has_ledgers(study) else []
    if any(estimated):
        rows.append(OwnerRow(_("estimated peak"), tuple(mib(p.peak.value if p else None, 1) for p in estimated)))
        errors = [
            relative_error(p.peak.value, own.peak_bytes.mean) if p else None
            for p, (_arm, own) in zip(estimated, costs, strict=True)
        ]
        rows.append(OwnerRow(_("error"), tuple(map(signed_percent, errors))))
    return tuple(rows)


def _bars(study: StudyComparison, estimates: Estimates) -> tuple[Bar, ...]:
    bars = []
    for arm in study.arms:
        if arm.costs:
            bars.append(memory_bar(arm.title, holders(study), sizes(study, arm.costs), arm.costs.peak_bytes.mean))
            if estimated := estimates.get(arm.title):
                bars.append(estimated.bar)
    return tuple(bars)


def _title(study: StudyComparison) -> str:
    arm, theirs = study.focus, study.reference.costs
    own = arm.costs if arm else None
    if arm is None or own is None or theirs is None or not study.memory_comparable:
        return _("Peak memory by owner")
    kept = (theirs.gradients_bytes + theirs.optimizer_bytes) - (own.gradients_bytes + own.optimizer_bytes)
    saved = theirs.peak_bytes.mean - own.peak_bytes.mean
    if saved <= 0:
        text = _(
            "%(arm)s peaks at %(own)s, no lower than %(reference)s",
            arm=arm_name(arm),
            own=bytes_text(own.peak_bytes.mean),
            reference=arm_name(study.reference),
        )
    elif kept >= saved / 2:
        text = _(
            "%(arm)s needs %(kept)s less for gradients and optimizer state; %(reference)s peaks at %(peak)s",
            arm=arm_name(arm),
            kept=bytes_text(kept),
            reference=arm_name(study.reference),
            peak=bytes_text(theirs.peak_bytes.mean),
        )
    else:
        text = _(
            "%(arm)s peaks %(saved)s lower than %(reference)s",
            arm=arm_name(arm),
            saved=bytes_text(saved),
            reference=arm_name(study.reference),
        )
    return capitalized(text)


def _note(study: StudyComparison, *, estimated: bool) -> str:
    if has_ledgers(study):
        parts = [
            _(
                "Length: measured peak, mean over seeds. Parts: what a train step held at its peak, device overhead "
                "beside the tensors, and what another phase held beyond training."
            )
        ]
    else:
        parts = [
            _(
                "Length: measured peak, mean over seeds. Weights, gradients and optimizer state are computed; "
                "activations and rest are the remainder."
            )
        ]
    if estimated:
        parts.append(_("Pale: estimated before the run, with its band."))
    if not study.memory_comparable:
        parts.append(_("Devices or precision differ, so the arms are not comparable."))
    return " ".join(parts)


def _table(study: StudyComparison, estimates: Estimates) -> Table:
    show = lambda size: mib(size, 1)  # noqa: E731
    columns = [Column("arm", _("arm"))]
    keys = ("weights", "gradients", "optimizer", "rest") if not has_ledgers(study) else [part.css for part in LEDGER]
    columns += [Column(f"{css}_bytes", name, show) for css, name in zip(keys, names(holders(study)), strict=True)]
    columns.append(Column("peak_bytes", _("measured peak"), show))
    if has_ledgers(study):
        columns += estimated_columns(_("estimated peak"), "bytes", show)
    rows: list[tuple[Cell, ...]] = []
    for arm in study.arms:
        if arm.costs:
            peak, estimated = arm.costs.peak_bytes.mean, estimates.get(arm.title)
            cells = estimated_cells(estimated.peak if estimated else None, peak) if has_ledgers(study) else ()
            rows.append((arm.title, *sizes(study, arm.costs), peak, *cells))
    return Table(tuple(columns), tuple(rows))
