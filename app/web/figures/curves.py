"""Training loss and validation score by step; the validation loss where the score needs generated text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.domain.comparison import Arm, Comparison
from app.domain.metrics import Steps
from app.domain.runs import RunStatus
from app.domain.tasks import TASKS, generates
from app.web.charts import curves
from app.web.charts.curves import THIN, Curve, Curves, loss_curve, point_curve
from app.web.charts.thin import Floats, bands, smooth, window_for
from app.web.figures.figure import Column, Figure, Table
from app.web.figures.verdict import look
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.numbers import count, decimal, hundred
from app.web.words.metrics import heading, loss_unit, title
from app.web.words.parts import listed, seeds, sentence

ENOUGH_STEPS = 50
"""Fewer say nothing of a trend."""
LEVEL = 0.05
"""Levelled off: over its last fifth the loss falls by less than this share of its whole fall."""
WIDTHS = (556, 356)


@dataclass(frozen=True)
class Checkpoint:
    """An evaluation on the validation split."""

    step: int
    epoch: float
    n: int
    loss: float
    score: float | None
    """None where the metric needs generated text."""


Seeds = list[tuple[Floats, Floats]]


def loss(found: Comparison, steps: Mapping[int, Steps]) -> Figure:
    """Training loss by optimizer step."""
    runs = {arm.title: _losses(arm, steps) for arm in found.arms}
    drawn = [loss_curve(look(arm), runs[arm.title]) for arm in found.arms if runs[arm.title]]
    means = {title: _mean(those) for title, those in runs.items() if those}
    return Figure(
        name="loss",
        title=_loss_title(found, means),
        label=_("Training loss by optimizer step, a line an arm"),
        note=_loss_note(runs),
        data=Curves(
            tuple(drawn),
            _last_step(found, runs),
            _("Training loss, %(unit)s", unit=loss_unit(found.spec.task)),
            marked=False,
            least=0.0,
        ),
        draw=curves.chart,
        widths=WIDTHS,
        table=_loss_table(means),
        everything=lambda: _every_step(found, steps),
        other=("validation", _("validation %(measure)s instead", measure=_measure(found))),
        empty="" if drawn else _("No step has been reported yet."),
    )


def validation(found: Comparison, checkpoints: Mapping[int, Sequence[Checkpoint]]) -> Figure:
    """Score on the validation split by optimizer step; the loss where the score needs generated text."""
    by_loss = generates(found.metric)
    runs = {
        arm.title: [_points(seen, by_loss=by_loss) for run in _drawable(arm) if (seen := checkpoints.get(run, ()))]
        for arm in found.arms
    }
    drawn: list[Curve] = [point_curve(look(arm), runs[arm.title]) for arm in found.arms if runs[arm.title]]
    if by_loss:
        axis = _("Loss on the validation split, %(unit)s", unit=loss_unit(found.spec.task))
    else:
        axis = _("↑ %(metric)s on the validation split, %%", metric=heading(found.metric))
    return Figure(
        name="validation",
        title=_validation_title(found),
        label=_("Validation %(measure)s by optimizer step, a line an arm", measure=_measure(found)),
        note=_validation_note(found, checkpoints, runs),
        data=Curves(tuple(drawn), _last_step(found, runs), axis, marked=True, most=None if by_loss else 100.0),
        draw=curves.chart,
        widths=WIDTHS,
        table=_validation_table(found, checkpoints),
        other=("loss", _("training loss instead")),
        empty="" if drawn else _("No run has been validated yet."),
    )


def _measure(found: Comparison) -> str:
    """What is drawn of the validation split."""
    return _("loss") if generates(found.metric) else title(found.metric)


def _points(seen: Sequence[Checkpoint], *, by_loss: bool) -> tuple[Floats, Floats]:
    """Steps, and losses or scores in percent."""
    pairs = [(float(c.step), c.loss if by_loss else 100 * (c.score or 0.0)) for c in seen]
    return np.array([step for step, _value in pairs]), np.array([value for _step, value in pairs])


def _drawable(arm: Arm) -> list[int]:
    """An arm's runs that ended well; until there are any, those at work."""
    done = [run.run_id for run in arm.succeeded]
    return done or [run.run_id for run in arm.runs if run.status is RunStatus.RUNNING]


def _losses(arm: Arm, steps: Mapping[int, Steps]) -> Seeds:
    return [
        (steps[run]["step"].astype(float), steps[run]["loss"].astype(float))
        for run in _drawable(arm)
        if len(steps.get(run, ()))
    ]


def _mean(seeds: Seeds) -> tuple[Floats, Floats]:
    """Steps, and the mean over seeds of the calmed loss."""
    mean, _low, _high = bands([smooth(values, window_for(len(values))) for _steps, values in seeds])
    return seeds[0][0][: len(mean)], mean


def _last_step(found: Comparison, runs: Mapping[str, Seeds]) -> int:
    planned = [run.result.steps for run in found.runs if run.result]
    return int(max([*planned, *(steps[-1] for those in runs.values() for steps, _values in those)], default=1))


def still_falling(mean: Floats) -> bool | None:
    """Whether a loss still falls over its last fifth; None where there are too few steps to tell."""
    if len(mean) < ENOUGH_STEPS or not np.isfinite(mean).all():
        return None
    fifth = len(mean) // 5
    last, before, first = mean[-fifth:].mean(), mean[-2 * fifth : -fifth].mean(), mean[: fifth // 2].mean()
    return bool(before - last > LEVEL * max(first - last, 1e-12))


def _loss_title(found: Comparison, means: Mapping[str, tuple[Floats, Floats]]) -> str:
    trends = {title: still_falling(mean) for title, (_steps, mean) in means.items()}
    if not found.complete or not trends or None in trends.values():
        return _("Training loss so far") if not found.complete else _("Training loss by step")
    falling = [title for title, falls in trends.items() if falls]
    level = [title for title, falls in trends.items() if not falls]
    if not falling:
        return _("The training loss has levelled off in every arm")
    if not level:
        return _("The training loss is still falling in every arm")
    text = _(
        "%(level)s: the loss has levelled off; %(falling)s: still falling", level=listed(level), falling=listed(falling)
    )
    return sentence(text)


def _loss_note(runs: Mapping[str, Seeds]) -> str:
    counts = [len(those) for those in runs.values() if those]
    if not counts:
        return ""
    window = window_for(max(len(v) for those in runs.values() for _s, v in those))
    line = _("Line: mean of %(seeds)s", seeds=seeds(counts)) if max(counts) > 1 else _("Line: one seed")
    parts = [_("%(line)s, running mean over %(window)s steps.", line=line, window=window)]
    if max(counts) > 1:
        parts.append(_("Band: smallest to largest seed."))
    parts.append(_thin(counts))
    parts += _ends(runs)
    parts.append(_("Every arm sees the same rows in the same order."))
    return " ".join(parts)


def _thin(counts: Sequence[int]) -> str:
    if max(counts) > THIN:
        return _("Thin: the first %(thin)s seeds.", thin=THIN)
    return _("Thin: each seed.")


def _ends(runs: Mapping[str, Seeds]) -> list[str]:
    """Said where an arm's seeds took different numbers of steps."""
    uneven = any(len({len(steps) for steps, _values in those}) > 1 for those in runs.values())
    return [_("A line ends where the first of its seeds stopped.")] if uneven else []


def _loss_table(means: Mapping[str, tuple[Floats, Floats]]) -> Table:
    steps = max((s for s, _mean in means.values()), key=len, default=np.zeros(0))
    at = sorted({int(i) for i in np.linspace(0, len(steps) - 1, 5)}) if len(steps) else []
    columns = [Column("arm", _("arm"))] + [
        Column(f"step_{int(steps[i])}", _("step %(step)s", step=int(steps[i])), lambda v: decimal(v, 2)) for i in at
    ]
    rows = [
        (title, *(float(mean[i]) if i < len(mean) else None for i in at)) for title, (_steps, mean) in means.items()
    ]
    return Table(tuple(columns), tuple(rows))


def _every_step(found: Comparison, steps: Mapping[int, Steps]) -> Table:
    """Every step of every run: what the CSV holds."""
    names = ("step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "seconds", "memory_bytes")
    columns = tuple(Column(name, name) for name in ("arm", "seed", "run", *names))
    rows = tuple(
        (run.arm, run.seed, run.run_id, *(row[name].item() for name in names))
        for run in found.runs
        for row in steps.get(run.run_id, ())
    )
    return Table(columns, rows)


def _validation_title(found: Comparison) -> str:
    results = [run.result for run in found.runs if run.result]
    if not results or not found.complete:
        return _("Validation %(measure)s so far", measure=_measure(found))
    early = sum(r.best_step < r.steps for r in results)
    if TASKS[found.spec.task].best_by == "loss":
        return _lowest_loss_title(early, len(results))
    if not early:
        return _("Every run was at its best on validation at its end")
    return ngettext(
        "In %(early)s of %(num)s run an earlier checkpoint was best on validation, and was kept",
        "In %(early)s of %(num)s runs an earlier checkpoint was best on validation, and was kept",
        len(results),
        early=early,
    )


def _lowest_loss_title(early: int, runs: int) -> str:
    """Where the best checkpoint is that of the lowest loss."""
    if not early:
        return _("Every run had its lowest validation loss at its end")
    return ngettext(
        "In %(early)s of %(num)s run an earlier checkpoint had the lowest validation loss, and was kept",
        "In %(early)s of %(num)s runs an earlier checkpoint had the lowest validation loss, and was kept",
        runs,
        early=early,
    )


def _validation_note(
    found: Comparison, checkpoints: Mapping[int, Sequence[Checkpoint]], runs: Mapping[str, Seeds]
) -> str:
    items = next((c.n for seen in checkpoints.values() for c in seen), None)
    counts = [len(those) for those in runs.values() if those]
    if items is None or not counts:
        return ""
    line = _("Line: mean of %(seeds)s", seeds=seeds(counts)) if max(counts) > 1 else _("Line: one seed")
    parts = [_("%(line)s, on %(items)s validation items.", line=line, items=count(items))]
    if max(counts) > 1:
        parts.append(_("Band: smallest to largest seed."))
    parts.append(_thin(counts))
    parts += _ends(runs)
    parts.append(_("The best checkpoint of each run was kept for the test."))
    if generates(found.metric):
        parts.append(
            _("Text is generated for the test only, so there is no %(metric)s here.", metric=title(found.metric))
        )
    return " ".join(parts)


def _validation_table(found: Comparison, checkpoints: Mapping[int, Sequence[Checkpoint]]) -> Table:
    by_loss = generates(found.metric)
    columns = (
        Column("arm", _("arm")),
        Column("seed", _("seed"), str),
        Column("run", _("run"), str),
        Column("step", _("step"), count),
        Column("epoch", _("epoch"), decimal),
        *(() if by_loss else (Column("score", _("%(metric)s, %%", metric=title(found.metric)), hundred),)),
        Column("loss", _("loss"), lambda v: decimal(v, 3)),
    )
    rows = tuple(
        (run.arm, run.seed, run.run_id, c.step, c.epoch, *(() if by_loss else (c.score,)), c.loss)
        for run in found.runs
        for c in checkpoints.get(run.run_id, ())
    )
    return Table(columns, rows)
