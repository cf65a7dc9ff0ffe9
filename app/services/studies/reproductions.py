"""Train a run again, and judge the result by the run's other seeds."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.domain.comparison.fairness.reproduction import Reproduction, reproduction
from app.domain.errors import Conflict
from app.domain.messages import _
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import RunStatus
from app.services.data.datasets import shortest_reference
from app.services.models.trained import saved_weights
from app.store.data import queries as datasets
from app.store.runs import evaluations
from app.store.runs import queries as runs
from app.store.tables import RunRow


@dataclass(frozen=True)
class Repeated:
    """A run with the spec and the seed of an earlier one."""

    run: RunRow
    result: Reproduction | None
    """None until it has succeeded, or without a score on the same test items."""


def spec_of(session: Session, run_id: int) -> RunSpec:
    """The spec with which a run is trained again, on the version of the data that it read. Raises NotFound, and
    Conflict for a run that has no score on the test split."""
    run = _scored(session, run_id)
    dataset = datasets.by_id(session, run.dataset_id)
    assert dataset is not None  # noqa: S101 a foreign key holds it
    return run.spec.model_copy(update={"dataset": shortest_reference(session, dataset)})


def of_run(session: Session, run_id: int) -> list[Repeated]:
    """The runs that belong to no study and have a run's spec and seed, the oldest first. Raises as `spec_of`."""
    first = _scored(session, run_id)
    candidates = [row for row in runs.may_repeat(session, first) if _trained(row) == _trained(first)]
    return [Repeated(again, _judged(session, first, again)) for again in candidates]


def _scored(session: Session, run_id: int) -> RunRow:
    run = runs.get(session, run_id)
    if run.imported:
        raise Conflict(_("Run %(run)s was imported, so it cannot be trained here.", run=run_id))
    if run.status != RunStatus.SUCCEEDED or run.trial_round is not None:
        raise Conflict(
            _(
                "Run %(run)s has no score on the test split. Choose a run that has succeeded and is no trial.",
                run=run_id,
            )
        )
    return run


def _trained(run: RunRow) -> RunSpec:
    """Its spec without the name of the dataset: two names may stand for one version."""
    return run.spec.model_copy(update={"dataset": ""})


def _judged(session: Session, first: RunRow, again: RunRow) -> Reproduction | None:
    if again.status != RunStatus.SUCCEEDED:
        return None
    scores = evaluations.test_scores(session, [first.id, again.id])
    theirs, ours = scores.get((first.id, "adapted")), scores.get((again.id, "adapted"))
    if theirs is None or ours is None or theirs.items_hash != ours.items_hash:
        return None
    hashes = [{(file.name, file.sha256) for file in saved_weights(session, run)} for run in (first, again)]
    return reproduction(
        theirs.scores,
        ours.scores,
        _seed_scores(session, first),
        same_weights=bool(hashes[0]) and hashes[0] == hashes[1],
        clusters=theirs.clusters or ours.clusters,
    )


def _seed_scores(session: Session, first: RunRow) -> list[float]:
    """The score of each seed of the run's arm or, outside of a study, of its group: of equal seeds, the earliest's."""
    found: dict[int, float] = {first.seed: first.score or 0.0}
    for row in runs.scored_seeds(session, first):
        if row.score is not None:
            found.setdefault(row.seed, row.score)
    return list(found.values())
