"""What the routes of work that a worker does on request have in common: list, get, cancel."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Path
from sqlalchemy.orm import Session

from app.services.workers.work import WorkKind
from app.store.workers.tables import LIVE
from app.web.api.answer import Answer
from app.web.http.dependencies import Db, Reading, RowId
from app.web.http.errors import problems
from app.web.http.waiting import Wait, ended


class WorkOut(Answer):
    """Work that was requested of a worker."""

    id: int
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: float
    """Share of the work that is done, from 0 to 1."""
    message: str
    """Why it failed."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


Out = TypeVar("Out", bound=WorkOut)


def add_work(
    router: APIRouter,
    kind: WorkKind[Any],
    out: type[Out],
    show: Callable[[Session, Any], Out],
    *,
    names: tuple[str, str],
    paths: tuple[str, str],
) -> None:
    """Add the routes of a kind. `names`: of many and of one in operation ids; `paths`: of the list and of one."""
    (many, one), (listed, single) = names, paths
    row_key = single.rpartition("{")[2].removesuffix("}")

    @router.get(listed, operation_id=f"list{many}", response_model=list[out], responses=problems(404))  # type: ignore[valid-type]
    def listing(session: Reading, parent_id: Annotated[RowId, Path(alias=kind.parent)]) -> list[Out]:
        """All of one parent, the oldest first."""
        kind.get_parent(session, parent_id)
        return [show(session, row) for row in kind.of(session, parent_id)]

    @router.get(single, operation_id=f"get{one}", response_model=out, responses=problems(404))
    async def get(db: Db, row_id: Annotated[RowId, Path(alias=row_key)], wait: Wait = 0.0) -> Out:
        """Its state; with `wait`, once it has ended or the seconds are over."""
        return await ended(
            db,
            lambda session: show(session, kind.get(session, row_id)),
            lambda answer: answer.status in LIVE,
            wait,
        )

    @router.post(
        f"{single}/cancel",
        status_code=202,
        operation_id=f"cancel{one}",
        response_model=out,
        responses=problems(403, 404, 409),
    )
    def cancel(db: Db, row_id: Annotated[RowId, Path(alias=row_key)]) -> Out:
        """Cancel it; 409 if it has ended. Its worker stops within seconds."""
        with db.transaction() as session:
            return show(session, kind.cancel(session, row_id))
