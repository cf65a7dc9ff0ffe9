"""What limits a study's baselines."""

from collections.abc import Iterator

from app.domain.comparison.study import StudyComparison
from app.web.format import capitalized, count
from app.web.i18n import gettext as _


def baseline_remarks(study: StudyComparison) -> Iterator[str]:
    """Baselines that learned from a sample, and why others could not be computed."""
    for baseline in study.baselines:
        name, stored = _(baseline.title), baseline.stored
        if stored.status == "failed":
            yield capitalized(_("%(baseline)s could not be computed. %(why)s", baseline=name, why=stored.message))
        answer = stored.baseline
        if answer and answer.trained_rows < answer.train_rows:
            values = {"rows": count(answer.trained_rows), "all": count(answer.train_rows)}
            remark = _(
                "%(baseline)s learned from %(rows)s of %(all)s training rows, at random.", baseline=name, **values
            )
            yield capitalized(remark)
