"""The one filter of what a viewer sees, on every statement of a session that has one.

`Database.seen_by(viewer)` gives sessions with a viewer: those of requests. Sessions of workers, of the sweep and of the
command line have none and see everything.

    SELECT, UPDATE, DELETE   get a condition for each table whose class has one (`seen`), in subqueries and joins too
                             (`_restrict`)
    the SQL itself           of a SELECT is refused if a table stands in it without its condition
                             (`_refuse_unfiltered`), so that no query is added by mistake that the filter does not
                             reach; the text of a Core UPDATE on a connection is not checked
    what a session adds      gets the viewer as owner (`_own`)
    what it changes          has to be the viewer's own, or without an owner (`_own`, `require_change`)

A query about the installation as a whole, such as whether a file is still in use, says so: `EVERY_OWNER`.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import Alias, ColumnElement, Connection, Engine, Table, and_, event, exists, inspect, or_
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, with_loader_criteria
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.sql.visitors import iterate

from app import feature
from app.domain.accounts.ownership import Viewer, refusal
from app.domain.messages import _
from app.store.database.owned import VIEWER, Asked, Owned
from app.store.database.seen import UNFILTERED, BelongsTo
from app.store.tables import Base, RunRow, UserRow

OPENED = "opened"
"""Key in `Session.info` of the private objects of others that a session opened, by table and id."""
FILTERED = "vezna_filtered"
"""Execution option of an engine whose sessions have a viewer that does not see everything."""
EVERY_OWNER = {"vezna_every_owner": True}
"""Execution options of a query about all rows, visible or not. Its result must not say which they are."""


@cache
def every_table() -> dict[str, type[Any]]:
    """The classes of all tables by name, those of inactive features too."""
    feature.load_tables()
    return {row.__tablename__: row for row in sorted((m.class_ for m in Base.registry.mappers), key=_name)}


def kinds(mixin: type[Any]) -> list[type[Any]]:
    """The tables whose rows have what a mixin says."""
    return [row for row in every_table().values() if issubclass(row, mixin)]


def _name(row: type[Any]) -> str:
    return str(row.__tablename__)


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
    found = {}
    for name, row in every_table().items():
        if row.seen == UNFILTERED:
            continue
        if isinstance(row.seen, BelongsTo):
            condition: ColumnElement[bool] = exists().where(*_of_seen(row, row.seen, viewer))
        else:
            condition = visible(row, viewer)
            if changing:
                condition = and_(condition, or_(row.owner_id.is_(None), row.owner_id == viewer.user_id))
        found[name] = with_loader_criteria(row, condition, include_aliases=True)
    return found


def _of_seen(row: Any, part: BelongsTo, viewer: Viewer) -> Iterator[ColumnElement[bool]]:
    """Conditions that a row belongs to another one, and that the viewer sees that one."""
    other = every_table()[part.table]
    alias = other.__table__.alias(_alias(part))
    yield alias.c.id == (row.c[part.column] if isinstance(row, FromClause) else getattr(row, part.column))
    if isinstance(other.seen, BelongsTo):
        yield from _of_seen(alias, other.seen, viewer)
    else:
        yield visible(alias, viewer)


def _alias(part: BelongsTo) -> str:
    return f"seen_{part.table}"


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
        elif isinstance(row, Asked):
            row.owner_id = viewer.user_id
    for row in (*session.dirty, *session.deleted):
        if isinstance(row, Owned) and (row in session.deleted or session.is_modified(row)):
            before = inspect(row).attrs.owner_id.history.deleted
            if not viewer.may_change(before[0] if before else row.owner_id):
                raise refusal(_("another user"))


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What reads tables that have a condition, and each of these in it."""
    names = "|".join(name for name, row in every_table().items() if row.seen != UNFILTERED)
    read = rf"(?<!DELETE )\b(?:FROM|JOIN)\s+((?:(?:{names})(?: AS \w+)?(?:, )?)+)(?=\s|\)|$)"
    return re.compile(read), re.compile(rf"({names})(?: AS (\w+))?")


@lru_cache(maxsize=4096)
def unfiltered(statement: str) -> str:
    """The first table that a statement reads without its condition; empty if there is none."""
    counted: dict[tuple[str, str], int] = {}
    reads, named = _patterns()
    for match in reads.finditer(statement):
        for table, alias in named.findall(match[1]):
            counted[table, alias or table] = counted.get((table, alias or table), 0) + 1
    for (table, name), times in counted.items():
        seen = every_table()[table].seen
        if isinstance(seen, BelongsTo):
            pattern = rf"\b{_alias(seen)}\.id = {name}\.{seen.column}\b"
        else:
            pattern = rf"\b{name}\.private_to IS NULL OR {name}\.private_to = "
        if len(re.findall(pattern, statement)) < times:
            return table
    return ""


def guard(engine: Engine) -> None:
    """Have an engine refuse statements of sessions with a viewer that read a table without its condition."""
    every_table()  # in time, and by one thread

    @event.listens_for(engine, "before_cursor_execute")
    def _refuse_unfiltered(
        _connection: Connection, _cursor: Any, statement: str, _parameters: object, context: Any, _many: bool
    ) -> None:
        options = context.execution_options if context is not None else {}
        if options.get(FILTERED) and not options.get("vezna_every_owner") and (table := unfiltered(statement)):
            raise AssertionError(f"a query reads {table} without regard to who may see it: {statement}")
