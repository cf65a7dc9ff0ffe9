"""Studies whose runs are trained elsewhere (docs/elsewhere.md, decision 33).

    declare    a study is a collection with a spec
    open       a script opens the run of an arm and a seed, by a key of its own. Opening a run again takes it over: the
               number of the attempt rises, and what an earlier script sends is refused
    report     numbered batches of steps and evaluations; one UPDATE per batch decides whether it counts
    end        the result, with a score for each test item

Nothing here is supervised: no lease, no sweep. A script that is silent is only shown as such.
Locks are taken in one order: the study, then its run.
"""

import hashlib
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.imports.declared import ExternalStudySpec
from app.domain.imports.reported import ReportedRun
from app.domain.imports.reports import RunOpening, opened, with_facts
from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.features.elsewhere.services.imports import columns_of
from app.services.users import audit
from app.store.database.ownership import require_change
from app.store.runs import events
from app.store.runs import queries as runs
from app.store.studies import collections, external
from app.store.tables import CollectionRow, RunRow, now
from app.store.workers import clock


@dataclass(frozen=True)
class RunState:
    """What a script is told of its run."""

    run_id: int
    status: RunStatus
    attempt: int
    """To be sent with every report: only the newest attempt may report."""
    next_batch: int
    """Number of the batch that is expected."""
    step: int
    """The last step that is known."""
    cancel: bool
    """A person asks to cancel the run: end it with the outcome `cancelled`."""

    @classmethod
    def of(cls, run: RunRow) -> "RunState":
        cancel = run.cancel_requested and not RunStatus(run.status).terminal
        return cls(run.id, RunStatus(run.status), run.epoch, run.reported + 1, run.step, cancel)


def declare(session: Session, spec: ExternalStudySpec) -> CollectionRow:
    """Declare a study. Raises Invalid if its name is taken."""
    row = CollectionRow(name=spec.name, declared_json=spec.model_dump(mode="json"))
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        what = _("The name %(name)r is taken", name=spec.name)
        raise Invalid.field("name", what, _("Choose another name: a study or a collection has this one")) from None
    arms = [arm.label for arm in spec.arms]
    audit.record(session, Action.DECLARE_STUDY, row.id, name=spec.name, arms=arms, seeds=len(spec.seeds))
    return row


def declared(session: Session, study_id: int, *, lock: bool = False) -> tuple[CollectionRow, ExternalStudySpec]:
    """A declared study. Raises NotFound, also for a collection of imported results."""
    row = collections.get(session, study_id, lock=lock)
    spec = row.declared
    if spec is None:
        raise NotFound(_("Collection %(id)s holds imported results. It is no study that scripts report to.", id=row.id))
    return row, spec


def open_run(session: Session, study_id: int, opening: RunOpening) -> RunState:
    """The run of a key: a new one, or the known one, which the caller takes over if it still goes on. Raises NotFound,
    Invalid, and Conflict if the key is that of another arm or seed, or if these have another run."""
    study, spec = declared(session, study_id, lock=True)
    require_change(session, study)
    reported = opened(spec, opening)
    key = hashlib.sha256(opening.key.encode()).hexdigest()
    run = external.with_key(session, study_id, key)
    if run is None:
        return _add(session, study, opening, reported, key)
    if (run.arm, run.seed) != (opening.arm, opening.seed):
        values = {"run": run.id, "arm": run.arm, "seed": run.seed}
        raise Conflict(
            _("This key is that of run %(run)s, arm %(arm)r, seed %(seed)s. Give each run a key of its own.", **values)
        )
    if not RunStatus(run.status).terminal:
        known = run.reported_run
        assert known is not None  # noqa: S101 it was found by its key
        run.imported_json = with_facts(known, opening.facts).model_dump(mode="json")
        run.epoch += 1
        run.heard_at = clock.now(session)
        events.add(session, run.id, "status", f"opened again as attempt {run.epoch}")
        session.flush()
    return RunState.of(run)


def _add(session: Session, study: CollectionRow, opening: RunOpening, reported: ReportedRun, key: str) -> RunState:
    if other := external.of_arm_and_seed(session, study.id, opening.arm, opening.seed):
        values = {"arm": opening.arm, "seed": opening.seed, "run": other.id, "status": other.status}
        if other.status == RunStatus.SUCCEEDED:
            raise Conflict(
                _(
                    "Run %(run)s is the result of arm %(arm)r for the seed %(seed)s. Delete it first if another run "
                    "replaces it.",
                    **values,
                )
            )
        raise Conflict(
            _(
                "Arm %(arm)r has run %(run)s for the seed %(seed)s, which is %(status)s. Continue it with its own key, "
                "or cancel or delete it first.",
                **values,
            )
        )
    at = now()
    values = columns_of(reported) | {
        "arm": reported.label,
        "seed": reported.seed,
        "method_kind": reported.kind,
        "spec_json": {},
        "imported_json": reported.model_dump(mode="json"),
        "imported_hash": key,
        "status": RunStatus.RUNNING.value,
        "metric": reported.metric,
        "epoch": 1,
        "attempts": 1,
        "queued_at": at,
        "started_at": at,
        "heard_at": clock.now(session),
        "step": 0,
        "total_steps": opening.total_steps,
    }
    run_id = collections.add(session, study, [values])[key]
    events.add(session, run_id, "status", "opened by a script elsewhere")
    audit.record(session, Action.OPEN_RUN, run_id, arm=reported.label, seed=reported.seed, study=study.name)
    return RunState.of(runs.get(session, run_id))
