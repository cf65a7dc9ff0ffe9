"""What the scripts of runs trained elsewhere report: numbered batches, and the end with its result.

One UPDATE decides whether a batch counts: it names the attempt and the number that is expected. The end locks the
study, so that its runs never end with different test items.
"""

from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.data.dataset import items_hash
from app.domain.errors import Conflict, Invalid
from app.domain.failures import FailureCode
from app.domain.imports.declared import ExternalStudySpec
from app.domain.imports.reports import ReportBatch, RunEnd, with_facts
from app.domain.messages import _
from app.domain.runs.result import to_array
from app.domain.runs.status import RunStatus
from app.features.elsewhere.services.imports import columns_of
from app.features.elsewhere.services.studies import RunState, declared
from app.services.runs import ended as ended_runs
from app.services.users import audit
from app.store.database.ownership import require_change
from app.store.runs import evaluations, events, steps
from app.store.runs import queries as runs
from app.store.studies import external
from app.store.tables import EvaluationRow, RunRow, now
from app.store.workers import clock

MOST_RUN_STEPS = 1_000_000
MOST_RUN_EVALUATIONS = 10_000
MOST_RUN_MESSAGES = 10_000
"""Of one run."""


def report(session: Session, run_id: int, batch: ReportBatch) -> RunState:
    """Write a batch of reports, once. Steps and evaluations that are known stay as they were first reported: training
    that resumes from a checkpoint repeats some. Raises NotFound, and Conflict for a batch that leaves a gap, of an
    attempt that another has taken over, or after the end."""
    run = _reported(session, run_id)
    expected, at = RunRow.reported == batch.number - 1, clock.now(session)
    if not runs.write(session, run_id, batch.attempt, expected, reported=batch.number, heard_at=at):
        _require_repeated(session, run, batch)
        return RunState.of(run)
    session.refresh(run)
    _check_room(session, run_id, batch)
    new = to_array([step.metrics for step in batch.steps if step.step > run.step])
    steps.append(session, run_id, new)
    if len(new):
        last = new[-1]
        run.step = int(last["step"])
        run.train_loss = float(last["loss"]) if np.isfinite(last["loss"]) else None
        run.train_seconds = float(last["seconds"]) or None  # 0 is not stated
        run.memory_bytes = int(last["memory_bytes"]) or None
    known = external.evaluated(session, run_id)
    for evaluation in batch.evaluations:
        if (evaluation.split, evaluation.step) in known:
            continue
        known.add((evaluation.split, evaluation.step))
        values = evaluation.model_dump(exclude={"items", "score"})
        score, metric = evaluation.score, run.metric
        session.add(
            EvaluationRow(
                run_id=run_id,
                subject="adapted",
                n=evaluation.items,
                metric=metric,
                score=score,
                metrics_json={metric: score},
                **values,
            )
        )
        if evaluation.split == "validation":
            run.validation_score = score
    if batch.message:
        events.add(session, run_id, "log", batch.message)
    session.flush()
    return RunState.of(run)


def _check_room(session: Session, run_id: int, batch: ReportBatch) -> None:
    """Raise Invalid if a run has as many reports of a kind as are stored; its end is accepted all the same."""
    for field, more, most, stored in (
        ("steps", len(batch.steps), MOST_RUN_STEPS, steps.count),
        ("evaluations", len(batch.evaluations), MOST_RUN_EVALUATIONS, evaluations.count),
        ("message", int(bool(batch.message)), MOST_RUN_MESSAGES, events.count_log),
    ):
        if more and (there := stored(session, run_id)) + more > most:
            values = {"run": run_id, "there": there, "most": most}
            what = _("Run %(run)s has %(there)s of these reports, and at most %(most)s are stored", **values)
            remedy = _("Report fewer, such as every tenth step; the end of the run is accepted in any case")
            raise Invalid.field(field, what, remedy)


def _require_repeated(session: Session, run: RunRow, batch: ReportBatch) -> None:
    """Raise NotFound or Conflict unless a batch that was not accepted now was accepted before."""
    run_id = run.id
    _require_attempt(session, run_id, batch.attempt)
    if RunStatus(run.status).terminal:
        raise Conflict(_("Run %(run_id)s has already ended: it is %(status)s.", run_id=run_id, status=run.status))
    if batch.number > run.reported:
        values = {"number": batch.number, "expected": run.reported + 1}
        raise Conflict(
            _("Batch %(number)s leaves a gap: batch %(expected)s is expected. Send that one first.", **values)
        )


def _require_attempt(session: Session, run_id: int, attempt: int) -> None:
    """Read a run anew and lock it. Raises NotFound if it was deleted, and Conflict if its newest attempt is another."""
    run = runs.get(session, run_id, lock=True)
    if run.epoch != attempt:
        values = {"run": run_id, "newest": run.epoch, "attempt": attempt}
        raise Conflict(
            _(
                "Another script has opened run %(run)s since: its newest attempt is %(newest)s, and this is "
                "%(attempt)s. Stop this script, or open the run again to take it over.",
                **values,
            )
        )


def end(session: Session, run_id: int, ending: RunEnd) -> RunState:
    """End a run, whose row is locked meanwhile. The same end again changes nothing. Raises NotFound, Invalid for scores
    that do not fit the study, and Conflict if the run has ended otherwise or another script has taken it over."""
    run = _reported(session, run_id)
    study, spec = declared(session, run.collection_id or 0, lock=True)
    _require_attempt(session, run_id, ending.attempt)
    scores = dict(sorted((ending.item_scores or {}).items())) if ending.outcome == "succeeded" else {}
    if RunStatus(run.status).terminal:
        if run.status != ending.outcome or not _same_scores(session, run, ending, scores):
            raise Conflict(_("Run %(run_id)s has already ended: it is %(status)s.", run_id=run_id, status=run.status))
        return RunState.of(run)
    if ending.outcome == "succeeded":
        _check_scores(session, study.id, spec, run_id, ending, scores)
    reported = run.reported_run
    assert reported is not None  # noqa: S101  `_reported` has checked it
    mean, items = _score(ending, scores)
    final = with_facts(reported, ending.facts, score=mean, items=items)
    values: dict[str, Any] = columns_of(final) | {"imported_json": final.model_dump(mode="json")}
    if final.steps is None:
        values["step"] = run.step
    if final.train_seconds is None:
        values["train_seconds"] = run.train_seconds
    if ending.outcome == "failed":
        values |= {"failure_code": FailureCode.ELSEWHERE.value, "failure_message": ending.message}
    outcome = RunStatus(ending.outcome)
    runs.move(session, run_id, RunStatus.RUNNING, outcome, finished_at=now(), **values)  # the row is locked
    if mean is not None and scores:
        evaluations.add_imported(session, run_id, spec.metric, mean, scores, values["step"], ending.item_groups)
    steps.compact(session, run_id)
    events.add(session, run_id, "status", f"{outcome.value}, reported by its script")
    audit.record(session, Action.END_RUN, run_id, outcome=outcome.value)
    ended_runs.note(session, run_id)
    session.flush()
    session.refresh(run)
    return RunState.of(run)


def _score(ending: RunEnd, scores: dict[str, float]) -> tuple[float | None, int | None]:
    """The score and the number of test items, as far as they are known."""
    if scores:
        return sum(scores.values()) / len(scores), len(scores)
    if ending.outcome == "succeeded" and ending.recorded is not None:
        return ending.recorded.score, ending.recorded.items
    return None, None


def _same_scores(session: Session, run: RunRow, ending: RunEnd, scores: dict[str, float]) -> bool:
    stored = evaluations.test_scores(session, [run.id]).get((run.id, "adapted"))
    if stored is None:
        return not scores and _score(ending, scores)[0] == run.score
    sent = np.asarray(list(scores.values()), dtype="<f4").astype(np.float64)
    if stored.items_hash != items_hash(list(scores)) or not np.array_equal(stored.scores, sent):
        return False
    return Clusters.same(stored.clusters, Clusters.of_items(scores, ending.item_groups))


def _check_scores(
    session: Session,
    study_id: int,
    spec: ExternalStudySpec,
    run_id: int,
    ending: RunEnd,
    scores: dict[str, float],
) -> None:
    if ending.metric not in (None, spec.metric):
        what = _("The study compares %(metric)s, not %(other)s", metric=spec.metric, other=ending.metric)
        raise Invalid.field("metric", what, _("Score every test item by %(metric)s", metric=spec.metric))
    other = external.scored(session, study_id, run_id) if scores else None
    if other is None:
        return
    first, items = other
    if items.items_hash == items_hash(list(scores)):
        names, groups = list(scores), ending.item_groups
        if (grouped := evaluations.contradicting(session, study_id, names, groups, run_id)) is not None:
            what = _("The groups of the test items are not those of run %(run)s", run=grouped)
            remedy = _("Give the same item_groups in every run of the study, or declare another study")
            raise Invalid.field("item_groups", what, remedy)
        return
    what = _(
        "The %(here)s test items are not the %(there)s of run %(run)s",
        here=len(scores),
        there=len(items.scores),
        run=first,
    )
    remedy = _("Score the same items under the same hashes in every run of the study, or declare another study")
    raise Invalid.field("item_scores", what, remedy)


def _reported(session: Session, run_id: int) -> RunRow:
    """A run from elsewhere. Raises NotFound, Forbidden, and Conflict for any other run."""
    run = runs.get(session, run_id)
    require_change(session, run)
    if run.reported_run is None:
        raise Conflict(_("Run %(run_id)s was not opened by a script: it takes no reports.", run_id=run_id))
    return run
