"""The model registry: register exports under a name, promote and retire versions.

Whatever changes a name locks its row first, so two promotions take turns; the second one is refused if it names the
revision that it has read. The database itself holds that a name has one champion.
"""

from typing import Any

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.errors import Conflict, Invalid, NotFound, Unavailable
from app.domain.messages import _
from app.features.shipping.queries import registry
from app.features.shipping.rules.registry import Promotion, Registration, Stage, missing_reason
from app.features.shipping.services import receipts
from app.features.shipping.services.signing import sign, signing_key
from app.features.shipping.services.work import EXPORTS
from app.features.shipping.tables import ModelExportRow, ModelVersionRow, RegisteredModelRow, StageChangeRow
from app.services.hooks import tell
from app.services.ownership import ownership
from app.services.users import audit
from app.settings import Settings
from app.store.runs import queries as runs

log = structlog.get_logger()


def register(
    session: Session, settings: Settings, name: str, new: Registration, user_id: int | None
) -> ModelVersionRow:
    """Make an export the next version of a name, which is created with its first one.

    Raises Invalid for an export that does not exist, has not succeeded, is that of a private run, or has not passed and
    comes without a reason;
    Conflict for one that this name already has, and for an outdated revision.
    """
    export = _exported(session, new.export)
    ownership.require_team(session, export.run_id)
    assert export.gate is not None  # noqa: S101 it has succeeded
    if missing := missing_reason(new.stage, export.gate.outcome, new.reason):
        raise Invalid.of([missing])
    model = _named(session, name)
    _require_revision(session, model, new.revision)
    for version in registry.of_exports(session, [export.id]):
        if version.model_id == model.id:
            values = {"export": export.id, "name": name, "number": version.number, "stage": version.stage.value}
            raise Conflict(
                _("Export %(export)s is version %(number)s of %(name)s already (%(stage)s). Promote that.", **values)
            )
    version = ModelVersionRow(
        model=model,
        number=registry.last_number(session, model.id) + 1,
        stage_name=Stage.CANDIDATE.value,
        export_id=export.id,
        exported_as=export.id,
        run_id=export.run_id,
        study_id=runs.get(session, export.run_id).study_id,
        format=export.format,
        gate_name=export.gate.outcome.value,
        receipt=_receipt(session, settings, export.id),
    )
    session.add(version)
    _move(session, version, new.stage, new.reason, user_id)
    audit.record(session, Action.REGISTER_VERSION, f"{name}@{version.number}", export=export.id, stage=new.stage.value)
    return version


def promote(session: Session, name: str, number: int, new: Promotion, user_id: int | None) -> ModelVersionRow:
    """Give a version another stage; a champion that is replaced is retired.

    Raises NotFound; Invalid for an export that has not passed, without a reason; Conflict for the stage that the
    version has already, for a deleted export, and for an outdated revision.
    """
    version = registry.version(session, registry.get(session, name), number)
    runs.lock(session, [version.run_id])  # its export is deleted under this lock
    model = registry.get(session, name, lock=True)
    session.refresh(version)
    _require_revision(session, model, new.revision)
    if version.stage is new.stage:
        values = {"name": name, "number": number, "stage": new.stage.value}
        raise Conflict(_("%(name)s %(number)s is already %(stage)s.", **values))
    if version.export_id is None and new.stage is not Stage.RETIRED:
        values = {"name": name, "number": number, "run": version.run_id}
        raise Conflict(
            _("The export of %(name)s %(number)s was deleted. Export run %(run)s again and register that.", **values)
        )
    if missing := missing_reason(new.stage, version.gate, new.reason):
        raise Invalid.of([missing])
    before = version.stage
    _move(session, version, new.stage, new.reason, user_id)
    audit.record(session, Action.CHANGE_STAGE, f"{name}@{number}", stage=new.stage.value, before=before.value)
    return version


def champion(session: Session, name: str) -> ModelVersionRow:
    """The champion of a name. Raises NotFound."""
    version = registry.champion(session, registry.get(session, name).id)
    if version is None:
        raise NotFound(_("%(name)s has no champion. Promote one of its versions.", name=name))
    return version


def _exported(session: Session, export_id: int) -> ModelExportRow:
    """An export that has succeeded; its run is locked, so that neither is deleted meanwhile. Raises Invalid."""
    try:
        runs.lock(session, [EXPORTS.get(session, export_id).run_id])
        row = EXPORTS.get(session, export_id, lock=True)
    except NotFound as error:
        raise Invalid.field("export", error.message, _("Choose an export that has succeeded")) from None
    if row.gate is None:
        what = _("Export %(id)s is %(status)s", id=export_id, status=row.status)
        raise Invalid.field("export", what, _("Choose an export that has succeeded"))
    return row


def _named(session: Session, name: str) -> RegisteredModelRow:
    """The row of a name, locked; a new one if it is not registered."""
    if (row := registry.find(session, name, lock=True)) is not None:
        return row
    row = RegisteredModelRow(name=name)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:  # another transaction has just registered it
        return registry.get(session, name, lock=True)
    return row


def _require_revision(session: Session, model: RegisteredModelRow, revision: int | None) -> None:
    if revision is None or revision == model.revision:
        return
    newest = max(
        (change for version in registry.versions(session, [model.id]) for change in version.changes),
        key=lambda change: change.id,
        default=None,
    )
    if newest is None:
        raise Conflict(_("%(name)s has changed since you read it. Read it again.", name=model.name))
    values = {"name": model.name, "number": newest.version.number, "stage": newest.after}
    raise Conflict(
        _("%(name)s has changed since you read it: version %(number)s became %(stage)s. Read it again.", **values)
    )


def _move(session: Session, version: ModelVersionRow, stage: Stage, reason: str, user_id: int | None) -> None:
    """Record a change of stage; the champion that it replaces goes first, because a name has one at a time."""
    model = version.model
    before = version.stage_name if version.changes else None
    if stage is Stage.CHAMPION and (replaced := registry.champion(session, model.id)) is not None:
        why = _("Replaced by version %(number)s.", number=version.number)
        replaced.changes.append(
            StageChangeRow(before=Stage.CHAMPION.value, after=Stage.RETIRED.value, reason=str(why), user_id=user_id)
        )
        replaced.stage_name = Stage.RETIRED.value
        session.flush()
    version.stage_name = stage.value
    version.changes.append(StageChangeRow(before=before, after=stage.value, reason=reason, user_id=user_id))
    model.revision += 1
    session.flush()
    if stage is Stage.CHAMPION:
        tell(session, "model.promoted", _promoted(version))


def _promoted(version: ModelVersionRow) -> dict[str, Any]:
    change = version.last_change
    return {
        "name": version.name,
        "version": version.number,
        "export": version.exported_as,
        "run": version.run_id,
        "study": version.study_id,
        "gate": version.gate_name,
        "by": change.by,
        "reason": change.reason,
    }


def _receipt(session: Session, settings: Settings, export_id: int) -> str:
    try:
        return sign(signing_key(settings), receipts.of_export(session, export_id)).encoded.decode()
    except Unavailable as error:
        log.warning("a version is registered without a receipt", export=export_id, why=error.message)
        return ""
