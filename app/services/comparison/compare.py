"""Comparisons of any runs: which runs are requested, and what is known of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from app.domain.comparison.runs import RunComparison, compare_runs
from app.domain.comparison.statistics.verdict import confidence_after
from app.domain.errors import Invalid, NotFound
from app.domain.messages import _
from app.domain.studies.alternative import Alternative
from app.services.comparison.runs import compared_runs, counts
from app.services.studies.studies import comparisons
from app.store.runs import queries as runs
from app.store.studies import collections, external
from app.store.studies import queries as studies
from app.store.tables import RunRow

MOST_RUNS = 100
"""In one comparison."""


@dataclass(frozen=True)
class Selection:
    """Which runs are to be compared, and how."""

    runs: tuple[int, ...] = ()
    studies: tuple[int, ...] = ()
    """Every run of these that counts in a verdict."""
    collection: int | None = None
    """Every run of this."""
    reference: int | None = None
    """A run of the reference arm; None takes the study's, where all runs are of one."""
    margin_points: float | None = None
    """None takes the study's, where all runs are of one; else 1."""
    alternative: Alternative | None = None
    """None takes the study's, where all runs are of one; else non-inferiority."""


@dataclass(frozen=True)
class Selected:
    """The comparison, and what of the selection does not exist."""

    comparison: RunComparison | None
    """None where no run exists."""
    missing: tuple[int, ...] = ()
    """Numbers of runs that do not exist."""
    replaced_reference: int | None = None
    """The run that was to be the reference, and is not among the runs: another took its place."""
    study_names: dict[int, str] = field(default_factory=dict)

    @property
    def strict(self) -> RunComparison:
        """The comparison of all that was selected. Raises NotFound and Invalid where something does not exist."""
        if self.missing:
            raise NotFound(_("There is no run %(runs)s.", runs=", ".join(map(str, self.missing[:20]))))
        if self.comparison is None:
            raise Invalid.field(
                "runs", _("No run is given"), _("Add runs=1,2,3, study=4 or collection=5 to the address")
            )
        if self.replaced_reference is not None:
            message = _("Run %(run)s is not among the compared runs", run=self.replaced_reference)
            raise Invalid.field("reference", message, _("Choose one of them"))
        return self.comparison


def compare(session: Session, selection: Selection) -> Selected:
    """Compare the selected runs as they stand. Raises NotFound for a study or a collection that does not exist, Invalid
    for too many runs."""
    ids = _ids(session, selection)
    if len(ids) > MOST_RUNS:
        raise Invalid.field(
            "runs",
            _("%(runs)s runs are too many to compare", runs=len(ids)),
            _("Choose at most %(most)s of them", most=MOST_RUNS),
        )
    rows = {row.id: row for row in runs.some(session, ids)}
    missing = tuple(number for number in ids if number not in rows)
    existing = _newest_tries([rows[number] for number in ids if number in rows])
    if not existing:
        return Selected(None, missing)
    replaced = selection.reference if selection.reference not in rows else None
    declared = _predeclared(session, existing)
    study_ids = {row.study_id for row in existing if row.study_id}
    comparison = compare_runs(
        compared_runs(session, existing),
        reference=declared.reference if selection.reference is None or replaced is not None else selection.reference,
        margin_points=declared.margin_points if selection.margin_points is None else selection.margin_points,
        alternative=selection.alternative or declared.alternative,
        predeclared=declared.runs,
        seeds=declared.seeds,
        labels=declared.labels,
        confidence=confidence_after(max(studies.most_looks(session, study_ids), _earlier_looks(session, existing))),
    )
    if declared.closed:
        comparison = comparison.not_tested()
    return Selected(comparison, missing, replaced, studies.names(session, study_ids))


@dataclass(frozen=True)
class _Predeclared:
    """What a study fixed before it began."""

    margin_points: float = 1.0
    alternative: Alternative = Alternative.NON_INFERIORITY
    reference: int | None = None
    """A run of its reference arm that has a result; None without one."""
    runs: frozenset[int] | None = None
    """Every run of that arm; None where the runs are not all of one study."""
    seeds: frozenset[int] = frozenset()
    """That a study of runs from elsewhere declared."""
    labels: tuple[str, ...] = ()
    """Labels of the arms that it declared."""
    closed: bool = False
    """Fine-tuning is not shown to help there, so that no arm has a verdict."""


def _predeclared(session: Session, rows: Sequence[RunRow]) -> _Predeclared:
    """By the study that all the runs are of, so that they read here as they do there."""
    study_ids = {row.study_id for row in rows}
    study_id = study_ids.pop()
    if study_ids or study_id is None:
        return _declared_elsewhere(session, rows)
    study = studies.get(session, study_id)
    spec, closed = study.spec, comparisons(session, [study])[study_id].learning.closed
    arm = [row for row in rows if row.arm == spec.reference_arm]
    done = (row.id for row in arm if row.score is not None and counts(row))
    members = frozenset(row.id for row in arm)
    return _Predeclared(spec.margin_points, spec.alternative, next(done, None), members, closed=closed)


def _declared_elsewhere(session: Session, rows: Sequence[RunRow]) -> _Predeclared:
    """By the declared study that all the runs report to."""
    collection_ids = {row.collection_id for row in rows}
    collection_id = collection_ids.pop()
    spec = collections.get(session, collection_id).declared if collection_id and not collection_ids else None
    if spec is None:
        return _Predeclared()
    arm = [row for row in rows if row.arm == spec.reference_arm]
    done = next((row.id for row in arm if row.score is not None), None)
    labels = tuple(declared.label for declared in spec.arms)
    members, seeds = frozenset(row.id for row in arm), frozenset(spec.seeds)
    return _Predeclared(spec.margin_points, spec.alternative, done, members, seeds, labels)


def _earlier_looks(session: Session, rows: Sequence[RunRow]) -> int:
    """How many studies of scripts' runs have shown some of these runs before the study that they report to."""
    collection_ids = {row.collection_id for row in rows if row.collection_id and row.reported_run is not None}
    return max((external.earlier_studies(session, collection_id) for collection_id in collection_ids), default=0)


def _newest_tries(rows: Sequence[RunRow]) -> list[RunRow]:
    """Without runs from elsewhere that were tried again: a try that failed is no further seed of its arm."""
    newest = {(row.collection_id, row.arm, row.seed): row.id for row in sorted(rows, key=lambda row: row.id)}
    return [row for row in rows if row.reported_run is None or newest[row.collection_id, row.arm, row.seed] == row.id]


def _ids(session: Session, selection: Selection) -> list[int]:
    """Each once, in the order of the selection."""
    ids = list(selection.runs)
    for study_id in selection.studies:
        studies.get(session, study_id)
        ids += [run.id for run in runs.of_study(session, study_id) if run.trial_round is None]
    if selection.collection is not None:
        declared = collections.get(session, selection.collection).declared is not None
        ids += (
            external.newest_tries(session, selection.collection)
            if declared
            else collections.run_ids(session, selection.collection, limit=MOST_RUNS + 1)
        )
    return list(dict.fromkeys(ids))
