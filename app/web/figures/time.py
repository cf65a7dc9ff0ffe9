"""The time of a study's arms by phase: measured, with the training as it was predicted below it."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.comparison.costs import Costs
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.resources.calibration import EstimateBand, relative_error
from app.web.figures.costs import PHASES, WIDTHS, before_training, phase_bar, phases, train_bar
from app.web.figures.drawing import stacks
from app.web.figures.drawing.stacks import Bar, Stacks
from app.web.figures.estimates import estimated_cells, estimated_columns
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.owners import Foreseen
from app.web.format import capitalized, decimal, duration
from app.web.i18n import gettext as _
from app.web.text.memory_fit import basis, off, time_band
from app.web.text.verdict import arm_name, seed_range

Done = list[tuple[StudyArm, Costs]]


def time(found: StudyComparison, foreseen: Mapping[str, Foreseen]) -> Figure:
    """The seconds of an attempt by phase, and the training as it was predicted."""
    done = _done(found)
    bars = _bars(done, foreseen)
    return Figure(
        name="time",
        title=_title(found),
        label=_("Seconds by phase, a bar an arm"),
        note=_note(found, done, any(bar.pale for bar in bars)),
        data=Stacks(bars, _("seconds, from claim to result →")),
        draw=stacks.chart,
        widths=WIDTHS,
        table=_table(done, foreseen),
        empty="" if bars else _("No run has a result yet."),
    )


@dataclass(frozen=True)
class TrainRow:
    """An arm's train time, predicted and measured, as it is written."""

    arm: str
    predicted: str
    band: str
    """Empty where it has no width."""
    basis: str
    measured: str
    off: str


def train_rows(found: StudyComparison, foreseen: Mapping[str, Foreseen]) -> tuple[TrainRow, ...]:
    """The arms whose train time was predicted."""
    rows = []
    for arm, costs in _done(found):
        guess, measured = _train(foreseen, arm), costs.train_seconds.mean
        if guess and measured:
            rows.append(
                TrainRow(
                    arm=arm.title,
                    predicted=duration(guess.value),
                    band=time_band(guess),
                    basis=basis(guess.runs),
                    measured=duration(measured),
                    off=off(relative_error(guess.value, measured)),
                )
            )
    return tuple(rows)


def _done(found: StudyComparison) -> Done:
    return [(arm, arm.costs) for arm in found.arms if arm.costs]


def _train(foreseen: Mapping[str, Foreseen], arm: StudyArm) -> EstimateBand | None:
    guess = foreseen.get(arm.title)
    return guess.train if guess else None


def _bars(done: Done, foreseen: Mapping[str, Foreseen]) -> tuple[Bar, ...]:
    bars = []
    for arm, costs in done:
        bars.append(phase_bar(arm.title, phases(costs.clocks), costs.wall_seconds.mean))
        if guess := _train(foreseen, arm):
            bars.append(train_bar(before_training(costs.clocks), guess))
    return tuple(bars)


def _title(found: StudyComparison) -> str:
    """Where the focus arm saves its train time, if it saves any and the times compare."""
    arm, its = found.focus, found.reference.costs
    own = arm.costs if arm else None
    if arm is None or own is None or its is None or not found.times_comparable:
        return _("Seconds by phase")
    values = {"arm": arm_name(arm), "reference": arm_name(found.reference)}
    saved = its.train_seconds.mean - own.train_seconds.mean
    if saved <= 0:
        return capitalized(_("%(arm)s trains no faster than %(reference)s", **values))
    parts = {name: its.clocks[name] - own.clocks[name] for name in ("forward", "backward", "optimizer")}
    most = max(parts, key=lambda name: parts[name])
    words = {"forward": _("the forward pass"), "backward": _("the backward pass"), "optimizer": _("the optimizer")}
    text = _(
        "%(arm)s saves %(saved)s of %(whole)s of training, %(part)s of it in %(phase)s",
        saved=duration(saved),
        whole=duration(its.train_seconds.mean),
        part=duration(min(parts[most], saved)),
        phase=words[most],
        **values,
    )
    return capitalized(text)


def _note(found: StudyComparison, done: Done, predicted: bool) -> str:
    if not done:
        return ""
    counts = [len(arm.succeeded) for arm, _costs in done]
    over = seed_range(counts)
    several = max(counts) > 1
    parts = [_("Seconds by phase, mean of %(seeds)s.", seeds=over) if several else _("Seconds by phase, one seed.")]
    parts.append(
        _(
            "Palest: set-up (start, load, tokenize, untouched model, cache), making batches, and evaluate, save, "
            "audit, weight updates."
        )
    )
    if predicted:
        parts.append(_("Below a bar: its training as it was predicted, with the band."))
    if predicted and found.spec.training.early_stopping_patience:
        parts.append(_("A prediction is of every step; a run may stop early."))
    if not found.times_comparable:
        beside = _("Runs stood side by side on one worker: the times do not compare.")
        apart = _("Not all on one worker with the same settings: the times do not compare.")
        parts.append(beside if found.runs_overlapped else apart)
    return " ".join(parts)


def _table(done: Done, foreseen: Mapping[str, Foreseen]) -> Table:
    columns = [Column("arm", _("arm"))]
    names = ("setup", "forward", "backward", "optimizer", "batches", "evaluate_save_audit")
    for name, (_css, word, _colour, _n) in zip(names, PHASES, strict=True):
        columns.append(Column(f"{name}_seconds", _(word), decimal))
    columns.append(Column("wall_seconds", _("whole attempt"), decimal))
    columns.append(Column("train_seconds", _("measured training"), decimal))
    columns += estimated_columns(_("predicted training"), "train_seconds", decimal)
    rows = (
        (arm.title, *phases(c.clocks), c.wall_seconds.mean, train, *estimated_cells(_train(foreseen, arm), train))
        for arm, c in done
        for train in (c.train_seconds.mean,)
    )
    return Table(tuple(columns), tuple(rows))
