"""What a study takes where its spec leaves it open: learning rates by method, and a margin that its test split can
decide on."""

from collections.abc import Sequence

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.domain.errors import Invalid
from app.domain.studies.plan import default_margin
from app.domain.studies.power import GRADED_SCORE, SCORE, MetricPrior, observed_disagreement
from app.domain.studies.spec import StudySpec
from app.domain.tasks import METRICS, MetricName
from app.domain.validation import field_error
from app.store.resources import past_runs
from app.store.resources.past_runs import PastRun
from app.store.runs import evaluations
from app.store.tables import BaseModelRow, DatasetRow

MAX_PRIOR_RUNS = 6
"""Past runs, each of another method, whose items are compared."""


def with_defaults(session: Session, spec: StudySpec, model: BaseModelRow, dataset: DatasetRow) -> StudySpec:
    """With a margin, if none was given, and with default learning rates. Raises Invalid if two arms become the
    same."""
    if "margin_points" not in spec.model_fields_set:
        prior = metric_prior(session, spec.verdict_metric, past_runs.succeeded(session, model.id, dataset.id))
        spec = spec.model_copy(update={"margin_points": default_margin(spec, dataset.facts, prior)})
    return with_default_rates(spec, model)


def with_default_rates(spec: StudySpec, model: BaseModelRow) -> StudySpec:
    """With the default learning rates for the inspected base model. Raises Invalid if two arms become the same."""
    try:
        return spec.with_default_rates(model.facts.width(spec.task) if model.facts else None)
    except ValidationError as error:
        raise Invalid.of([field_error(details, {}) for details in error.errors()]) from None


def metric_prior(session: Session, metric: MetricName, past: Sequence[PastRun]) -> MetricPrior:
    """From the newest run of each method that has the metric."""
    graded = METRICS[metric].graded
    newest = {run.spec.method.label: run for run in reversed(past) if run.spec.verdict_metric == metric}
    if not newest:
        return MetricPrior(metric=metric, graded=graded, score=GRADED_SCORE if graded else SCORE)
    ids = [run.id for run in newest.values()][-MAX_PRIOR_RUNS:]
    by_run = evaluations.test_scores(session, ids)
    scores = [by_run[run_id, "adapted"] for run_id in ids if (run_id, "adapted") in by_run]
    same_items = [s.scores[None, :] for s in scores if s.items_hash == scores[-1].items_hash and len(s.scores) > 1]
    return MetricPrior(
        metric=metric,
        graded=graded,
        score=max(run.score for run in newest.values()),
        disagreement=observed_disagreement(same_items, scores[-1].clusters if scores else None),
        runs=len(same_items),
    )
