"""Queries of the model registry."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.features.shipping.rules.registry import Stage
from app.features.shipping.tables import ModelExportRow, ModelVersionRow, RegisteredModelRow
from app.store.tables import RunRow


def all_of_them(session: Session) -> Sequence[RegisteredModelRow]:
    """Every name, in the order of the alphabet."""
    return session.scalars(select(RegisteredModelRow).order_by(RegisteredModelRow.name)).all()


def find(session: Session, name: str, *, lock: bool = False) -> RegisteredModelRow | None:
    """A name, if it is registered; with `lock`, read anew and locked until the transaction ends."""
    query = select(RegisteredModelRow).where(RegisteredModelRow.name == name)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).first()


def get(session: Session, name: str, *, lock: bool = False) -> RegisteredModelRow:
    """A name. Raises NotFound."""
    if (row := find(session, name, lock=lock)) is None:
        raise NotFound(_("There is no registered model %(name)s.", name=name))
    return row


def versions(session: Session, model_ids: Sequence[int]) -> list[ModelVersionRow]:
    """All versions of names, the newest first."""
    query = select(ModelVersionRow).where(ModelVersionRow.model_id.in_(model_ids))
    return list(session.scalars(query.order_by(ModelVersionRow.number.desc(), ModelVersionRow.id)))


def version(session: Session, model: RegisteredModelRow, number: int) -> ModelVersionRow:
    """A version. Raises NotFound."""
    query = select(ModelVersionRow).where(ModelVersionRow.model_id == model.id, ModelVersionRow.number == number)
    if (row := session.scalars(query).first()) is None:
        raise NotFound(_("%(name)s has no version %(number)s.", name=model.name, number=number))
    return row


def champion(session: Session, model_id: int) -> ModelVersionRow | None:
    """The champion of a name, if it has one."""
    query = select(ModelVersionRow).where(ModelVersionRow.model_id == model_id)
    return session.scalars(query.where(ModelVersionRow.stage_name == Stage.CHAMPION.value)).first()


def last_number(session: Session, model_id: int) -> int:
    """The highest number of a version; 0 without any."""
    query = select(func.max(ModelVersionRow.number)).where(ModelVersionRow.model_id == model_id)
    return session.scalar(query) or 0


def of_exports(session: Session, export_ids: Sequence[int]) -> list[ModelVersionRow]:
    """The versions that are one of these exports, the oldest first."""
    query = select(ModelVersionRow).where(ModelVersionRow.export_id.in_(export_ids))
    return list(session.scalars(query.order_by(ModelVersionRow.id)))


def why_in_use(session: Session, which: ColumnElement[bool]) -> str:
    """Why the exports that match a condition on exports and their runs cannot be deleted: a sentence; empty if no
    candidate or champion is made of them."""
    query = select(ModelVersionRow).join(ModelExportRow, ModelExportRow.id == ModelVersionRow.export_id)
    query = query.join(RunRow, RunRow.id == ModelExportRow.run_id)
    query = query.where(which, ModelVersionRow.stage_name != Stage.RETIRED.value).order_by(ModelVersionRow.id)
    if (row := session.scalars(query).first()) is None:
        return ""
    values = {"name": row.name, "number": row.number, "stage": row.stage.value, "export": row.exported_as}
    return _(
        "Export %(export)s is %(stage)s %(number)s of %(name)s in the registry. Retire that version first.", **values
    )


def why_visible(session: Session, study_ids: Collection[int], run_ids: Collection[int]) -> str:
    """Why studies and runs cannot be private: a sentence; empty if the registry has no version of them."""
    of_them = or_(ModelVersionRow.study_id.in_(study_ids), ModelVersionRow.run_id.in_(run_ids))
    row = session.scalars(select(ModelVersionRow).where(of_them).limit(1)).first()
    if row is None:
        return ""
    return _("The registry has an export of this as %(name)s, and all users see it.", name=row.name)
