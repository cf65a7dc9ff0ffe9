"""The time of a study's arms by phase: measured, with the estimated training below it."""

from collections.abc import Mapping

from app.domain.comparison.costs.costs import Costs
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.resources.calibration import EstimateBand
from app.domain.resources.memory_fit import RunFit
from app.web.figures.drawing import stacks
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.resources.parts import (
    PHASES,
    REST_NOTE,
    TimeUse,
    estimated_cells,
    estimated_columns,
    phase_seconds,
    time_stacks,
)
from app.words.format import capitalized, decimal, duration
from app.words.i18n import gettext as _
from app.words.verdict.verdict import arm_name, seed_range

Estimates = Mapping[str, RunFit]
"""By arm."""


def time(study: StudyComparison, estimates: Estimates) -> Figure:
    """The seconds of an attempt by phase, and the estimated training."""
    measured = _measured(study)
    uses = [TimeUse(arm.title, c.clocks, c.wall_seconds.mean, _train(estimates, arm)) for arm, c in measured]
    return Figure(
        name="time",
        title=_title(study),
        label=_("Seconds by phase, one bar per arm"),
        note=_note(study, estimates, estimated=any(use.train for use in uses)) if uses else "",
        data=time_stacks(uses),
        draw=stacks.chart,
        table=_table(study, estimates),
        empty="" if uses else _("No run has a result yet."),
    )


def train_estimates(study: StudyComparison, estimates: Estimates) -> list[tuple[StudyArm, float, EstimateBand]]:
    """The arms with an estimated train time: what was measured, and the estimate."""
    return [
        (arm, costs.train_seconds.mean, estimated)
        for arm, costs in _measured(study)
        if costs.train_seconds.mean and (estimated := _train(estimates, arm))
    ]


def _measured(study: StudyComparison) -> list[tuple[StudyArm, Costs]]:
    return [(arm, arm.costs) for arm in study.arms if arm.costs]


def _train(estimates: Estimates, arm: StudyArm) -> EstimateBand | None:
    estimated = estimates.get(arm.title)
    return estimated.train_seconds if estimated else None


def _title(study: StudyComparison) -> str:
    """Where the focus arm saves its train time, if it saves any and the times compare."""
    arm, reference = study.focus, study.reference.costs
    own = arm.costs if arm else None
    if arm is None or own is None or reference is None or not study.times_comparable:
        return _("Seconds by phase")
    values = {"arm": arm_name(arm), "reference": arm_name(study.reference)}
    saved = reference.train_seconds.mean - own.train_seconds.mean
    if saved <= 0:
        return capitalized(_("%(arm)s trains no faster than %(reference)s", **values))
    parts = {name: reference.clocks[name] - own.clocks[name] for name in ("forward", "backward", "optimizer")}
    most = max(parts, key=lambda name: parts[name])
    words = {"forward": _("the forward pass"), "backward": _("the backward pass"), "optimizer": _("the optimizer")}
    text = _(
        "%(arm)s saves %(saved)s of %(reference_time)s of training, %(part)s of it in %(phase)s",
        saved=duration(saved),
        reference_time=duration(reference.train_seconds.mean),
        part=duration(min(parts[most], saved)),
        phase=words[most],
        **values,
    )
    return capitalized(text)


def _note(study: StudyComparison, estimates: Estimates, *, estimated: bool) -> str:
    counts = [sum(not run.shared for run in arm.succeeded) for arm, _costs in _measured(study)]
    several = max(counts) > 1
    parts = [_("Mean of %(seeds)s.", seeds=seed_range(counts)) if several else _("One seed."), _(REST_NOTE)]
    if estimated:
        parts.append(_("Below a bar: the estimated training, with its band."))
    if estimated and any(fit.late for fit in estimates.values()):
        parts.append(_("Some of the estimates were calculated only after the run had started."))
    if estimated and study.spec.training.early_stopping_patience:
        parts.append(_("An estimate covers every step; a run may stop early."))
    if any(run.shared for run in study.runs):
        parts.append(_("Without runs that trained together: their time is shared."))
    if not study.times_comparable:
        overlap = _("Runs overlapped on one worker, so the times are not comparable.")
        apart = _("Not all runs used one worker with the same settings, so the times are not comparable.")
        parts.append(overlap if study.runs_overlapped else apart)
    return " ".join(parts)


def _table(study: StudyComparison, estimates: Estimates) -> Table:
    columns = [Column("arm", _("arm"))]
    columns += [Column(f"{phase.column}_seconds", _(phase.name), decimal) for phase in PHASES]
    columns.append(Column("wall_seconds", _("wall time"), decimal))
    columns.append(Column("train_seconds", _("measured training"), decimal))
    columns += estimated_columns(_("estimated training"), "train_seconds", decimal)
    rows = []
    for arm, costs in _measured(study):
        train = costs.train_seconds.mean
        estimated = estimated_cells(_train(estimates, arm), train)
        rows.append((arm.title, *phase_seconds(costs.clocks), costs.wall_seconds.mean, train, *estimated))
    return Table(tuple(columns), rows)
