"""The four facts below the verdict: score, memory, time, file."""

from dataclasses import dataclass

from app.domain.comparison.study import StudyArm, StudyComparison
from app.web.format import NBSP, NOTHING, duration, file_size, hundred, mib, short_count, significant
from app.web.i18n import gettext as _
from app.web.text.metrics import title
from app.web.text.verdict import both_costs, difference_text, memory_share, score_text, time_share, times_smaller


@dataclass(frozen=True)
class Fact:
    """A number, the unit that stands small beside it, and what it is."""

    value: str
    unit: str
    what: str


def facts(found: StudyComparison) -> tuple[Fact, ...]:
    """Of the headline's arm against the reference; of the first arm with a result where nothing was weighed."""
    arm = found.focus
    if arm is not None and both_costs(found, arm) is not None:
        return (_score(found, arm), _memory(found, arm), _time(found, arm), _file(found, arm))
    done = next((a for a in found.arms if a.score is not None and a.costs is not None), None)
    return _alone(found, done) if done is not None else ()


def _score(found: StudyComparison, arm: StudyArm) -> Fact:
    reference = found.reference
    reached = hundred(arm.score.mean if arm.score else None), hundred(reference.score.mean if reference.score else None)
    what = _(
        "%(metric)s, %(own)s against %(reference)s",
        metric=title(found.metric),
        own=reached[0],
        reference=f"{reached[1]}{NBSP}%",
    )
    return Fact(difference_text(arm) or NOTHING, _("points"), what)


def _memory(found: StudyComparison, arm: StudyArm) -> Fact:
    costs = both_costs(found, arm)
    value = memory_share(found, arm)
    if costs is None or value is None:
        return Fact(NOTHING, "", _("memory: measured under different conditions"))
    own, reference = mib(costs[0].peak_bytes.mean), f"{mib(costs[1].peak_bytes.mean)}{NBSP}MiB"
    return Fact(value, "", _("of the memory, %(own)s of %(reference)s", own=own, reference=reference))


def _time(found: StudyComparison, arm: StudyArm) -> Fact:
    costs = both_costs(found, arm)
    value = time_share(found, arm)
    if costs is None or value is None:
        return Fact(NOTHING, "", _("train time: measured under different conditions"))
    own, reference = duration(costs[0].train_seconds.mean), duration(costs[1].train_seconds.mean)
    return Fact(value, "", _("of the train time, %(own)s of %(reference)s", own=own, reference=reference))


def _file(found: StudyComparison, arm: StudyArm) -> Fact:
    costs = both_costs(found, arm)
    if costs is None or not costs[0].artifact_bytes or not costs[1].artifact_bytes:
        return Fact(NOTHING, "", _("file: not kept"))
    own, reference = costs[0].artifact_bytes, costs[1].artifact_bytes
    what = _("file, %(own)s against %(reference)s", own=file_size(own), reference=file_size(reference))
    smaller = times_smaller(own, reference)
    if smaller is not None:
        return Fact(f"{smaller}×", _("smaller"), what)
    return Fact(f"{significant(own / reference, 2)}×", _("the size"), what)


def _alone(found: StudyComparison, arm: StudyArm) -> tuple[Fact, ...]:
    """An arm that was not weighed."""
    costs = arm.costs
    if costs is None:
        return ()
    return (
        Fact(score_text(arm) or NOTHING, "", _("%(metric)s of %(arm)s", metric=title(found.metric), arm=arm.title)),
        Fact(f"{mib(costs.peak_bytes.mean)}{NBSP}MiB", "", _("peak memory")),
        Fact(duration(costs.train_seconds.mean), "", _("train time, a seed")),
        Fact(
            file_size(costs.artifact_bytes),
            "",
            _("file, %(n)s parameters trained", n=short_count(costs.trainable_parameters)),
        ),
    )
