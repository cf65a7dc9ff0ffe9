"""Studies: submit, watch, weigh, add seeds, cancel."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as naturals
from itertools import islice

from sqlalchemy.orm import Session

from app.domain.comparison import Comparison, RunOutcome, compare
from app.domain.errors import Conflict, Invalid
from app.domain.runs import RunStatus
from app.domain.studies import StudySpec, StudyStatus, status_of
from app.queue import Doorbell
from app.services import runs as run_service
from app.services.fit import check_study
from app.store.queries import datasets, evaluations, runs, studies
from app.store.tables import RunRow, StudyRow

MOST_SEEDS = 100


def submit(session: Session, bell: Doorbell, spec: StudySpec) -> StudyRow:
    """Accept a study and queue every run that it owes. Raises Invalid; then nothing is queued."""
    model, dataset = check_study(session, spec)
    study = StudyRow(
        name=spec.name, base_model_id=model.id, dataset_id=dataset.id, spec_json=spec.model_dump(mode="json")
    )
    session.add(study)
    session.flush()
    for owed in spec.owed():
        run_service.enqueue(session, bell, owed.spec, model, dataset, study_id=study.id, arm=owed.arm)
    return study


def add_seeds(session: Session, bell: Doorbell, study_id: int, count: int) -> StudyRow:
    """Add `count` new seeds to every arm of a study. Raises NotFound, Invalid."""
    study = studies.get(session, study_id, lock=True)
    spec = study.spec
    if count < 1 or len(spec.seeds) + count > MOST_SEEDS:
        raise Invalid.field(
            "count",
            f"{count} more seeds are not possible: the study has {len(spec.seeds)}",
            f"add from 1 to {MOST_SEEDS - len(spec.seeds)}",
        )
    seeds = list(islice((seed for seed in naturals() if seed not in spec.seeds), count))
    more = StudySpec.model_validate(spec.model_dump() | {"seeds": seeds})
    model, dataset = check_study(session, more)
    for owed in more.owed():
        run_service.enqueue(session, bell, owed.spec, model, dataset, study_id=study.id, arm=owed.arm)
    whole = StudySpec.model_validate(spec.model_dump() | {"seeds": [*spec.seeds, *seeds]})
    study.spec_json = whole.model_dump(mode="json")
    session.flush()
    return study


def cancel(session: Session, study_id: int) -> StudyRow:
    """Cancel every run of a study that has not ended. Raises NotFound, and Conflict if all have."""
    study = studies.get(session, study_id)
    live = [run for run in runs.of_study(session, study_id) if not RunStatus(run.status).terminal]
    if not live:
        raise Conflict(f"every run of study {study_id} has already ended")
    for run in live:
        try:
            run_service.cancel(session, run.id)
        except Conflict:
            continue  # it ended in the meantime
    return study


@dataclass(frozen=True)
class StudyProgress:
    """Where a study stands."""

    study: StudyRow
    status: StudyStatus
    runs: list[RunRow]
    """In the order in which the study owes them."""

    @property
    def done(self) -> int:
        """Runs that have ended, however."""
        return sum(RunStatus(run.status).terminal for run in self.runs)


def progress(session: Session, study_id: int) -> StudyProgress:
    """A study with its runs. Raises NotFound."""
    study = studies.get(session, study_id)
    rows = runs.of_study(session, study_id)
    return StudyProgress(study, status_of([RunStatus(run.status) for run in rows]), rows)


def comparison(session: Session, study_id: int) -> Comparison:
    """A study weighed by the runs that it has so far. Raises NotFound."""
    return comparisons(session, [studies.get(session, study_id)])[study_id]


def comparisons(session: Session, rows: Sequence[StudyRow]) -> dict[int, Comparison]:
    """Several studies weighed, by id."""
    of_study: dict[int, list[RunRow]] = {row.id: [] for row in rows}
    for run in runs.of_studies(session, list(of_study)):
        of_study[run.study_id or 0].append(run)
    scores = evaluations.test_scores(session, [run.id for found in of_study.values() for run in found])
    found = {}
    for row in rows:
        dataset = datasets.by_id(session, row.dataset_id)
        found[row.id] = compare(
            row.spec,
            [_outcome(run, scores) for run in of_study[row.id]],
            test_items=dataset.facts.counts["test"] if dataset else None,
        )
    return found


def _outcome(run: RunRow, scores: dict[tuple[int, str], evaluations.ItemScores]) -> RunOutcome:
    succeeded = run.status == RunStatus.SUCCEEDED
    adapted = scores.get((run.id, "adapted")) if succeeded else None
    base = scores.get((run.id, "base")) if succeeded else None
    return RunOutcome(
        run_id=run.id,
        arm=run.arm,
        seed=run.seed,
        status=RunStatus(run.status),
        result=run.result,
        failure=run.failure,
        scores=adapted.scores if adapted else None,
        base_scores=base.scores if base else None,
        items_hash=adapted.items_hash if adapted else None,
        worker=run.worker,
        started_at=run.started_at,
        finished_at=run.finished_at,
    )
