"""A study's baselines: how far the arms are above the best one, and what limits them."""

from collections.abc import Iterator

from app.domain.comparison.baselines import strongest
from app.domain.comparison.model import AnyComparison, ArmResult
from app.domain.comparison.study import StudyArm, StudyComparison
from app.words.format import NBHYPHEN, capitalized, confidence, count
from app.words.i18n import gettext as _
from app.words.i18n import stored as translated
from app.words.verdict.verdict import difference_interval


def above_baseline_text(comparison: AnyComparison, arm: ArmResult) -> str:
    """`+10.9 ± 2.8 vs. TF-IDF`: an arm's score minus that of the best baseline, points; empty without one."""
    best = strongest(comparison.baselines) if isinstance(comparison, StudyComparison) else None
    if best is None or not isinstance(arm, StudyArm) or arm.above_baseline is None:
        return ""
    difference = difference_interval(arm.above_baseline)
    return _("%(difference)s vs. %(baseline)s", difference=difference, baseline=_(best.title).replace("-", NBHYPHEN))


def baseline_remarks(study: StudyComparison) -> Iterator[str]:
    """What stands below the scores; baselines that learned from a sample, and why others could not be computed."""
    best = strongest(study.baselines)
    if best and any(arm.above_baseline for arm in study.arms):
        yield _(
            "Below a score: its difference from the best baseline (%(baseline)s) in points, with a %(level)s interval.",
            baseline=_(best.title),
            level=confidence(study.confidence),
        )
    for baseline in study.baselines:
        name, stored = _(baseline.title), baseline.stored
        if stored.status == "failed":
            yield capitalized(
                _("%(baseline)s could not be computed. %(why)s", baseline=name, why=translated(stored.message))
            )
        answer = stored.baseline
        if answer and answer.trained_rows < answer.train_rows:
            values = {"rows": count(answer.trained_rows), "all": count(answer.train_rows)}
            remark = _(
                "%(baseline)s learned from %(rows)s of %(all)s training rows, at random.", baseline=name, **values
            )
            yield capitalized(remark)
