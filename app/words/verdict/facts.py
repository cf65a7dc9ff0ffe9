"""The four numbers below a study's verdict: score, memory, time, file."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.domain.comparison.costs.costs import Costs
from app.domain.comparison.study import StudyArm, StudyComparison
from app.words.format import (
    NBSP,
    NOTHING,
    duration,
    file_size,
    hundred,
    memory,
    memory_in,
    memory_unit,
    percent,
    short_count,
    significant,
)
from app.words.i18n import gettext as _
from app.words.runs.metrics import title
from app.words.verdict.lead import both_costs, memory_share, time_share, times_smaller
from app.words.verdict.learning import label_name
from app.words.verdict.verdict import difference_interval, difference_text, score_text


@dataclass(frozen=True)
class Fact:
    """A number, the unit that stands small beside it, and what it is."""

    value: str
    unit: str
    what: str


def facts(study: StudyComparison) -> tuple[Fact, ...]:
    """Facts about the headline's arm against the reference; about the first arm with a result where nothing was
    compared."""
    if study.learning.closed:
        return tuple(_learning(study))
    arm = study.focus
    if arm is not None and (costs := both_costs(study, arm)):
        own, other = costs
        return (
            _score(study, arm),
            _memory(memory_share(study, arm), own, other),
            _time(time_share(study, arm), own, other),
            _file(own.artifact_bytes, other.artifact_bytes),
        )
    done = next((a for a in study.arms if a.score is not None and a.costs is not None), None)
    return _alone(study, done) if done is not None else ()


def _learning(study: StudyComparison) -> Iterator[Fact]:
    """What says that fine-tuning did not help: the reference against its baselines, its predictions, its progress."""
    learning, reference = study.learning, study.reference.title
    compared = [baseline for baseline in study.baselines if baseline.difference]
    ranked = sorted(compared, key=lambda baseline: baseline.score.mean if baseline.score else 0.0)
    for baseline in [*ranked[:1], *ranked[1:][-1:]]:
        what = _("%(reference)s compared with “%(baseline)s”", reference=reference, baseline=_(baseline.title))
        if baseline.difference:
            yield Fact(difference_interval(baseline.difference.reversed), _("points"), what)
    if known := learning.predicted.get(study.reference.title):
        label = label_name(study, known.label)
        yield Fact(percent(known.share), "", _("of its predictions are “%(label)s”", label=label))
    if learning.validated:
        value = _("%(some)s of %(all)s", some=learning.improved, all=learning.validated)
        yield Fact(value, "", _("of its runs improved on validation after the first evaluation"))


def _score(study: StudyComparison, arm: StudyArm) -> Fact:
    reference = study.reference
    own, other = (
        hundred(arm.score.mean if arm.score else None),
        hundred(reference.score.mean if reference.score else None),
    )
    what = _(
        "%(metric)s, %(own)s compared with %(reference)s",
        metric=title(study.metric),
        own=own,
        reference=f"{other}{NBSP}%",
    )
    return Fact(difference_text(arm) or NOTHING, _("points"), what)


def _memory(value: str | None, costs: Costs, others: Costs) -> Fact:
    if value is None:
        return Fact(NOTHING, "", _("memory: measured under different conditions"))
    peak = others.peak_bytes.mean
    own, reference = memory_in(costs.peak_bytes.mean, peak), f"{memory_in(peak, peak)}{NBSP}{memory_unit(peak)[1]}"
    return Fact(value, "", _("of the memory, %(own)s of %(reference)s", own=own, reference=reference))


def _time(value: str | None, costs: Costs, others: Costs) -> Fact:
    if value is None:
        return Fact(NOTHING, "", _("train time: measured under different conditions"))
    own, reference = duration(costs.train_seconds.mean), duration(others.train_seconds.mean)
    return Fact(value, "", _("of the train time, %(own)s of %(reference)s", own=own, reference=reference))


def _file(own: int, reference: int) -> Fact:
    if not own or not reference:
        return Fact(NOTHING, "", _("file: not kept"))
    what = _("file, %(own)s of %(reference)s", own=file_size(own), reference=file_size(reference))
    smaller = times_smaller(own, reference)
    if smaller is not None:
        return Fact(f"{smaller}×", _("smaller"), what)
    return Fact(f"{significant(own / reference, 2)}×", _("the size"), what)


def _alone(study: StudyComparison, arm: StudyArm) -> tuple[Fact, ...]:
    """An arm that was compared with nothing."""
    costs = arm.costs
    if costs is None:
        return ()
    return (
        Fact(score_text(arm) or NOTHING, "", _("%(metric)s of %(arm)s", metric=title(study.metric), arm=arm.title)),
        Fact(memory(costs.peak_bytes.mean), "", _("peak memory")),
        Fact(duration(costs.train_seconds.mean), "", _("train time per seed")),
        Fact(
            file_size(costs.artifact_bytes),
            "",
            _("file, %(n)s trainable params", n=short_count(costs.trainable_parameters)),
        ),
    )


FILTERS = (facts,)
