"""The peak memory of a study's arms by owner: measured, with the estimate below it."""

from collections.abc import Mapping, Sequence
from functools import partial

from app.domain.comparison.costs.costs import Costs
from app.domain.comparison.study import StudyComparison
from app.domain.resources.memory_fit import RunFit
from app.web.bars import Segment, segments
from app.web.figures.drawing import stacks
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.resources.parts import (
    COMPUTED,
    LEDGER,
    Holder,
    MemoryUse,
    Sizes,
    computed_sizes,
    estimated_cells,
    estimated_columns,
    largest_peak,
    ledger_sizes,
    memory_stacks,
    names,
)
from app.words.format import capitalized, memory_in, memory_unit
from app.words.format import memory as bytes_text
from app.words.i18n import gettext as _
from app.words.verdict.verdict import arm_name

Estimates = Mapping[str, RunFit]
"""By arm."""


def memory(study: StudyComparison, estimates: Estimates) -> Figure:
    """The peak of each arm, and what holds it."""
    known = estimates if has_ledgers(study) else {}
    uses = [
        MemoryUse(arm.title, sizes(study, arm.costs), arm.costs.peak_bytes.mean, known.get(arm.title))
        for arm in study.arms
        if arm.costs
    ]
    return Figure(
        name="memory",
        title=_title(study),
        label=_("Peak memory by owner, one bar per arm"),
        note=_note(study, estimated=bool(known), late=any(fit.late for fit in known.values())) if uses else "",
        data=memory_stacks(uses),
        draw=stacks.chart,
        table=_table(study, uses),
        empty="" if uses else _("No run has a result yet."),
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


def owner_segments(study: StudyComparison, costs: Costs) -> tuple[Segment, ...]:
    """An arm's bar in the table of arms; the longest of the study is a whole bar."""
    every = [arm.costs for arm in study.arms if arm.costs]
    longest = max(max(sum(sizes(study, other)), other.peak_bytes.mean) for other in every)
    return segments(zip((holder.css for holder in holders(study)), sizes(study, costs), strict=True), longest)


def _title(study: StudyComparison) -> str:
    arm, reference = study.focus, study.reference.costs
    own = arm.costs if arm else None
    if arm is None or own is None or reference is None or not study.memory_comparable:
        return _("Peak memory by owner")
    kept = (reference.gradients_bytes + reference.optimizer_bytes) - (own.gradients_bytes + own.optimizer_bytes)
    saved = reference.peak_bytes.mean - own.peak_bytes.mean
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
            peak=bytes_text(reference.peak_bytes.mean),
        )
    else:
        text = _(
            "%(arm)s peaks %(saved)s lower than %(reference)s",
            arm=arm_name(arm),
            saved=bytes_text(saved),
            reference=arm_name(study.reference),
        )
    return capitalized(text)


def _note(study: StudyComparison, *, estimated: bool, late: bool) -> str:
    if has_ledgers(study):
        parts = [
            _(
                "Length: measured peak, mean over seeds. Parts: what a train step held at its peak, device overhead "
                "beside the tensors, and what another phase held above the peak of training."
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
    if late:
        parts.append(_("Some of the estimates were calculated only after the run had started."))
    if any(run.shared for run in study.runs):
        parts.append(_("Without runs that trained together: their memory is shared."))
    if not study.memory_comparable:
        parts.append(_("Devices or precision differ, so the arms are not comparable."))
    return " ".join(parts)


def _table(study: StudyComparison, uses: Sequence[MemoryUse]) -> Table:
    ledgers, largest = has_ledgers(study), largest_peak(uses)
    show = partial(memory_in, largest=largest, digits=1)
    owners = [part.css for part in LEDGER] if ledgers else ["weights", "gradients", "optimizer", "rest"]
    columns = [Column("arm", _("arm"))]
    columns += [Column(f"{css}_bytes", name, show) for css, name in zip(owners, names(holders(study)), strict=True)]
    columns.append(Column("peak_bytes", _("measured peak"), show, total=True))
    if ledgers:
        columns += estimated_columns(_("estimated peak"), "bytes", show)
    rows = []
    for use in uses:
        cells = estimated_cells(use.estimated_peak, use.peak) if ledgers else ()
        rows.append((use.name, *use.sizes, use.peak, *cells))
    return Table(tuple(columns), rows, _("The same in numbers, %(unit)s", unit=memory_unit(largest)[1]))
