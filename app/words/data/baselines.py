"""A study's baselines: how far the arms are above the best one, and what limits them."""

from collections.abc import Iterator

from app.domain.comparison.baselines import strongest
from app.domain.comparison.study import StudyComparison
from app.words.format import capitalized, confidence, count, join_names
from app.words.i18n import gettext as _
from app.words.i18n import stored as translated
from app.words.verdict.verdict import difference_interval


def baseline_remarks(study: StudyComparison) -> Iterator[str]:
    """How far arms are above the best baseline; baselines that learned from a sample, what the others are, and why
    some could not be computed."""
    best = strongest(study.baselines)
    above = [
        _("%(arm)s %(difference)s", arm=arm.title, difference=difference_interval(arm.above_baseline))
        for arm in study.arms
        if arm.above_baseline
    ]
    if best and above:
        yield _(
            "Points above the best baseline, %(baseline)s, with %(level)s intervals: %(arms)s.",
            baseline=_(best.title),
            level=confidence(study.confidence),
            arms=join_names(above),
        )
    for note in dict.fromkeys(baseline.facts.note for baseline in study.baselines if baseline.facts.note):
        of = [_(baseline.title) for baseline in study.baselines if baseline.facts.note == note]
        yield capitalized(_("%(baselines)s: %(note)s.", baselines=join_names(of), note=_(note)))
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
