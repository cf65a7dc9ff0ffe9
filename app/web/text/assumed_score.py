"""What is known of a study's metric before it starts: from past runs on the same data, else assumed and said to be."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.domain.studies.power import GRADED_SCORE, SCORE, observed_disagreement
from app.domain.tasks import METRICS, MetricName
from app.store.queries import evaluations
from app.store.queries.past_runs import PastRun
from app.web.format import percent
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.metrics import title

MOST_HELD_AGAINST = 6
"""Past runs, of as many methods, whose items are held against each other."""


@dataclass(frozen=True)
class Chance:
    """What is known of the metric beforehand: seen in past runs, else assumed."""

    metric: MetricName
    score: float
    disagreement: float | None = None
    """As `detectable_difference` takes it; None where it is assumed."""
    runs: int = 0
    """Past runs that these are from."""

    @classmethod
    def of(cls, session: Session, metric: MetricName, past: Sequence[PastRun]) -> "Chance":
        """From the newest runs of each method that were judged by the metric."""
        newest = {run.spec.method.label: run for run in reversed(past) if run.spec.verdict_metric == metric}
        if not newest:
            return cls(metric, GRADED_SCORE if METRICS[metric].graded else SCORE)
        ids = [run.id for run in newest.values()][-MOST_HELD_AGAINST:]
        scores = evaluations.test_scores(session, ids)
        found = [scores[run_id, "adapted"] for run_id in ids if (run_id, "adapted") in scores]
        alike = [one.scores[None, :] for one in found if one.items_hash == found[-1].items_hash and len(one.scores) > 1]
        return cls(metric, max(run.score for run in newest.values()), observed_disagreement(alike), len(alike))

    @property
    def words(self) -> str:
        """What a smallest difference is worked out from."""
        values = {"metric": title(self.metric), "score": percent(self.score, 0)}
        if self.disagreement is not None:
            return ngettext(
                "the difference from how items varied in %(num)s past run, and what seeds usually change;",
                "the difference from how items varied in %(num)s past runs, and what seeds usually change;",
                self.runs,
            )
        if METRICS[self.metric].graded:
            return _(
                "the difference from %(metric)s %(score)s, items that vary a third as much as right and wrong do, and "
                "what seeds usually change;",
                **values,
            )
        return _("the difference from %(metric)s %(score)s and usual variances;", **values)
