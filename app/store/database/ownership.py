"""The one filter of what a viewer sees, on every statement of a session that has one.

`Database.seen_by(viewer)` gives sessions with a viewer: those of requests. Sessions of workers, of the sweep and of the
command line have none and see everything.

    SELECT, UPDATE, DELETE   get a condition for each table below, in subqueries and joins too (`_restrict`)
    the SQL itself           of a SELECT is refused if a table stands in it without its condition
                             (`_refuse_unfiltered`), so that no query is added by mistake that the filter does not
                             reach; the text of a Core UPDATE on a connection is not checked
    what a session adds      gets the viewer as owner (`_own`)
    what it changes          has to be the viewer's own, or without an owner (`_own`, `require_change`)

A query about the installation as a whole, such as whether a file is still in use, says so: `EVERY_OWNER`.
"""

import re
from functools import lru_cache
from typing import Any

from sqlalchemy import Alias, ColumnElement, Connection, Engine, Table, and_, event, exists, inspect, or_
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, with_loader_criteria
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.sql.visitors import iterate

from app.domain.accounts.ownership import Viewer, refusal
from app.domain.messages import _
from app.features.elsewhere.tables import ExternalTrackerExportRow, TrackerExportRow
from app.features.judging.tables import BlindRatingRow, JudgementRow, JudgeScoreRow
from app.features.recipes.tables import RecipeRunRow
from app.features.shipping.tables import HubPushRow, ModelExportRow, ParityCheckRow
from app.store.database.owned import VIEWER, Owned
from app.store.tables import (
    ArtifactRow,
    BaseModelRow,
    CollectionRow,
    DatasetRow,
    EstimateRow,
    EvaluationRow,
    RunEventRow,
    RunHostRow,
    RunRow,
    RunTagRow,
    StepChunkRow,
    StudyRow,
    StudyTagRow,
    UploadRow,
    UserRow,
    WeightDeltasRow,
)

OPENED = "opened"
"""Of a session: the key of the private objects of others that it opened, by table and id."""
FILTERED = "vezna_filtered"
"""Execution option of an engine whose sessions have a viewer that does not see everything."""
EVERY_OWNER = {"vezna_every_owner": True}
"""Execution options of a query about all rows, visible or not. Its result must not say which they are."""

OWNED: tuple[type[Any], ...] = (StudyRow, RunRow, DatasetRow, UploadRow, BaseModelRow, CollectionRow)
OF_RUN: tuple[type[Any], ...] = (
    ArtifactRow,
    EvaluationRow,
    ModelExportRow,
    ParityCheckRow,
    RunEventRow,
    RunHostRow,
    RunTagRow,
    StepChunkRow,
    WeightDeltasRow,
)
OF_STUDY: tuple[type[Any], ...] = (JudgementRow, JudgeScoreRow, RecipeRunRow, StudyTagRow, TrackerExportRow)
OF_EXTERNAL_STUDY: tuple[type[Any], ...] = (ExternalTrackerExportRow,)
"""Of a collection, in the column `study_id`."""
OF_EXPORT: tuple[type[Any], ...] = (HubPushRow,)
OF_PAIR: tuple[type[Any], ...] = (BlindRatingRow,)
"""Of two runs of a study, which have the same visibility."""
ELSEWHERE = {
    "api_tokens", "audit_events", "clock", "device_usage", "devices", "ended_runs", "estimates", "external_identities",
    "fine_tuning_jobs", "form_keys", "hub_tokens", "idempotency_keys", "lab_answers", "lab_cards", "lab_class_seeds",
    "lab_class_studies", "lab_classes", "lab_members", "lab_progress", "login_failures", "login_sessions",
    "model_versions", "one_time_links", "openid_logins", "pending_logins", "quota_limits", "recovery_codes",
    "registered_models", "second_factors", "stage_changes", "users", "webhook_deliveries", "webhooks", "workers",
}  # fmt: skip
"""Tables without a condition: of accounts and of the installation. Estimates, fine-tuning jobs and classes of the Lab
have rules of their own (`app.store.resources.estimates.get`, `app.features.openai_jobs.queries`,
`app.features.lab.services.classes.taught`). The registry has exports of runs that the team sees
(`app.services.ownership.ownership`)."""


def viewer_of(session: Session) -> Viewer | None:
    """The viewer of a session; None where it sees everything."""
    found: Viewer | None = session.info.get(VIEWER)
    return found


def owner_of(session: Session) -> int | None:
    """The owner of what a session creates."""
    viewer = viewer_of(session)
    return viewer.user_id if viewer else None


def require_change(session: Session, row: object) -> None:
    """Raise Forbidden if the session's viewer may not change a row, which is visible."""
    viewer = viewer_of(session)
    if viewer is not None and isinstance(row, Owned) and not viewer.may_change(row.owner_id):
        raise refusal(owner_name(session, row.owner_id))


def owner_name(session: Session, owner_id: int | None) -> str:
    """The name of a user, or the e-mail address of one without a name."""
    owner = session.get(UserRow, owner_id) if owner_id is not None else None
    return (owner.name or owner.email) if owner else ""


def note_access(session: Session, row: object) -> None:
    """Note that an admin opens what is private to another user; `Database` reports it when the session ends."""
    viewer = viewer_of(session)
    if viewer is not None and isinstance(row, Owned) and row.private_to not in (None, viewer.user_id):
        state = inspect(row)
        session.info.setdefault(OPENED, []).append((state.mapper.local_table.name, state.identity[0]))


def note_access_of_run(session: Session, run_id: int) -> None:
    """The same for what belongs to a run."""
    viewer = viewer_of(session)
    if viewer is not None and viewer.sees_all:
        note_access(session, session.get(RunRow, run_id))


def visible(table: type[Any] | FromClause, viewer: Viewer) -> ColumnElement[bool]:
    """The rows of a table with owners that a viewer sees, who does not see everything."""
    column = table.c.private_to if isinstance(table, FromClause) else table.private_to
    return or_(column.is_(None), column == viewer.user_id)


@lru_cache(maxsize=1024)
def _conditions(viewer: Viewer, changing: bool) -> dict[str, Any]:
    """By table; `changing`: of an UPDATE or DELETE."""
    runs, studies = RunRow.__table__.alias("seen_runs"), StudyRow.__table__.alias("seen_studies")
    exports, collections = (
        ModelExportRow.__table__.alias("seen_exports"),
        CollectionRow.__table__.alias("seen_collections"),
    )
    own = {table: or_(table.owner_id.is_(None), table.owner_id == viewer.user_id) for table in OWNED}
    pairs = [
        (table, and_(visible(table, viewer), own[table]) if changing else visible(table, viewer)) for table in OWNED
    ]
    pairs += [(table, exists().where(and_(runs.c.id == table.run_id, visible(runs, viewer)))) for table in OF_RUN]
    pairs += [(table, exists().where(and_(runs.c.id == table.first_id, visible(runs, viewer)))) for table in OF_PAIR]
    pairs += [
        (table, exists().where(and_(studies.c.id == table.study_id, visible(studies, viewer)))) for table in OF_STUDY
    ]
    pairs += [
        (table, exists().where(and_(collections.c.id == table.study_id, visible(collections, viewer))))
        for table in OF_EXTERNAL_STUDY
    ]
    of_seen = exports.join(runs, and_(runs.c.id == exports.c.run_id, visible(runs, viewer)))
    pairs += [(table, exists().select_from(of_seen).where(exports.c.id == table.export_id)) for table in OF_EXPORT]
    return {
        table.__tablename__: with_loader_criteria(table, condition, include_aliases=True) for table, condition in pairs
    }


def _tables_in(statement: Any) -> set[str]:
    """The names of the tables that a statement names, in subqueries too."""
    names = set()
    for element in iterate(statement):
        source = getattr(element, "table", element)
        if isinstance(source, Alias):
            source = source.element
        if isinstance(source, Table):
            names.add(source.name)
    return names


@event.listens_for(Session, "do_orm_execute")
def _restrict(state: ORMExecuteState) -> None:
    viewer = viewer_of(state.session)
    if viewer is None or viewer.sees_all or state.execution_options.get("vezna_every_owner") or state.is_insert:
        return
    if state.is_column_load:  # of a row that the session has, so that it is visible
        state.update_execution_options(**EVERY_OWNER)
        return
    conditions = _conditions(viewer, state.is_update or state.is_delete)
    if relevant := [conditions[name] for name in _tables_in(state.statement) if name in conditions]:
        state.statement = state.statement.options(*relevant)


@event.listens_for(Session, "before_flush")
def _own(session: Session, _context: UOWTransaction, _instances: object) -> None:
    viewer = viewer_of(session)
    if viewer is None:
        return
    for row in session.new:
        if isinstance(row, RunRow) and row.study_id is not None:
            continue  # it has the owner of its study
        if isinstance(row, Owned) and row.owner_id is None:
            row.give(viewer.user_id, viewer.creates)
        elif isinstance(row, EstimateRow | JudgementRow | ModelExportRow | ParityCheckRow):
            row.owner_id = viewer.user_id
    for row in (*session.dirty, *session.deleted):
        if isinstance(row, Owned) and (row in session.deleted or session.is_modified(row)):
            before = inspect(row).attrs.owner_id.history.deleted
            if not viewer.may_change(before[0] if before else row.owner_id):
                raise refusal(_("another user"))


CONDITIONED = (*OWNED, *OF_RUN, *OF_STUDY, *OF_EXTERNAL_STUDY, *OF_EXPORT, *OF_PAIR)
"""Tables with a condition."""
NAMES = "|".join(table.__tablename__ for table in CONDITIONED)
READ_TABLE = re.compile(rf"(?<!DELETE )\b(?:FROM|JOIN)\s+((?:(?:{NAMES})(?: AS \w+)?(?:, )?)+)(?=\s|\)|$)")
NAMED = re.compile(rf"({NAMES})(?: AS (\w+))?")


@lru_cache(maxsize=4096)
def unfiltered(statement: str) -> str:
    """The first table that a statement reads without its condition; empty if there is none."""
    counted: dict[tuple[str, str], int] = {}
    for match in READ_TABLE.finditer(statement):
        for table, alias in NAMED.findall(match[1]):
            counted[table, alias or table] = counted.get((table, alias or table), 0) + 1
    for (table, name), times in counted.items():
        seen = _PARENTS.get(table)
        if seen is None:
            pattern = rf"\b{name}\.private_to IS NULL OR {name}\.private_to = "
        else:
            pattern = rf"\b{seen[0]}\.id = {name}\.{seen[1]}\b"
        if len(re.findall(pattern, statement)) < times:
            return table
    return ""


_PARENTS = {
    table.__tablename__: seen
    for tables, seen in (
        (OF_RUN, ("seen_runs", "run_id")),
        (OF_STUDY, ("seen_studies", "study_id")),
        (OF_EXTERNAL_STUDY, ("seen_collections", "study_id")),
        (OF_EXPORT, ("seen_exports", "export_id")),
        (OF_PAIR, ("seen_runs", "first_id")),
    )
    for table in tables
}
"""The alias in the condition, and the column that names it."""


def guard(engine: Engine) -> None:
    """Have an engine refuse statements of sessions with a viewer that read a table without its condition."""

    @event.listens_for(engine, "before_cursor_execute")
    def _refuse_unfiltered(
        _connection: Connection, _cursor: Any, statement: str, _parameters: object, context: Any, _many: bool
    ) -> None:
        options = context.execution_options if context is not None else {}
        if options.get(FILTERED) and not options.get("vezna_every_owner") and (table := unfiltered(statement)):
            raise AssertionError(f"a query reads {table} without regard to who may see it: {statement}")
