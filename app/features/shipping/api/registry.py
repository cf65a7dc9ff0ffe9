"""The model registry over REST: names, their versions and champions; register, promote, retire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Body
from pydantic import BaseModel

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.errors import Conflict
from app.domain.messages import _
from app.domain.models.exports import ExportFormat
from app.features.shipping.queries import registry
from app.features.shipping.rules.receipts import Envelope
from app.features.shipping.rules.registry import Promotion, Registration, RegistryName, Stage
from app.features.shipping.services import registry as service
from app.features.shipping.tables import ModelVersionRow, RegisteredModelRow
from app.web.api.answer import Answer
from app.web.api.examples import PROMOTION, VERSION
from app.web.http.dependencies import Config, Db, Reading, RowId, User
from app.web.http.errors import problems
from app.web.http.idempotency import OnceByHeader

router = APIRouter(prefix="/registry", tags=["registry"])


class StageChangeOut(Answer):
    """A registration, a promotion or a retirement."""

    before: Stage | None
    """Null for a registration."""
    after: Stage
    reason: str
    by: str
    """The user; empty where Vezna runs for a single user."""
    at: datetime


class VersionOut(Answer):
    """A version of a registered model."""

    name: str
    version: int
    stage: Stage
    format: ExportFormat
    gate: GateOutcome
    """Outcome of the export's gate."""
    export_id: int | None
    """Null once the export was deleted, which only a retired version permits."""
    run_id: int
    study_id: int | None
    revision: int
    """Of the name. A promotion that names it is refused if the name has changed since."""
    created_at: datetime
    changes: list[StageChangeOut]
    """The oldest first."""

    @classmethod
    def of(cls, row: ModelVersionRow) -> Self:
        changes = [StageChangeOut.from_object(change) for change in row.changes]
        return cls.from_object(row, version=row.number, revision=row.model.revision, changes=changes)


class RegisteredModelOut(BaseModel):
    """A name with its versions."""

    name: str
    revision: int
    """Number of its changes."""
    champion: int | None
    """Number of the version; null without one."""
    created_at: datetime
    versions: list[VersionOut]
    """The newest first."""

    @classmethod
    def of(cls, row: RegisteredModelRow, versions: Sequence[ModelVersionRow]) -> Self:
        """From a row and its versions."""
        champion = next((version.number for version in versions if version.stage is Stage.CHAMPION), None)
        shown = [VersionOut.of(version) for version in versions]
        return cls(name=row.name, revision=row.revision, champion=champion, created_at=row.created_at, versions=shown)


@router.get("", operation_id="listRegisteredModels")
def listing(session: Reading) -> list[RegisteredModelOut]:
    """Every registered model with its versions, in the order of the alphabet."""
    rows = registry.all_of_them(session)
    versions = registry.versions(session, [row.id for row in rows])
    return [RegisteredModelOut.of(row, [v for v in versions if v.model_id == row.id]) for row in rows]


@router.get("/{name}", operation_id="getRegisteredModel", responses=problems(404))
def get(session: Reading, name: str) -> RegisteredModelOut:
    """A registered model with its versions and every change of their stages."""
    row = registry.get(session, name)
    return RegisteredModelOut.of(row, registry.versions(session, [row.id]))


@router.get("/{name}/champion", operation_id="getChampion", responses=problems(404))
def champion(session: Reading, name: str) -> VersionOut:
    """The champion of a name; 404 without one. Its files: `GET /api/v1/exports/{export_id}/archive`."""
    return VersionOut.of(service.champion(session, name))


@router.post(
    "/{name}/versions", status_code=201, operation_id="registerVersion", responses=problems(404, 409, 413, 422)
)
def register(
    db: Db,
    settings: Config,
    user: User,
    once: OnceByHeader,
    name: RegistryName,
    request: Annotated[Registration, Body(openapi_examples=VERSION)],
) -> VersionOut:
    """Make an export the next version of a name, as a candidate or as the champion. An export that has not passed its
    gate needs a reason (422); 409 for one that the name already has, and if `revision` is outdated."""
    with db.transaction() as session:
        return once.keep(session, VersionOut.of(service.register(session, settings, name, request, user.user_id)))


@router.post("/{name}/versions/{number}/stage", operation_id="promoteVersion", responses=problems(404, 409, 413, 422))
def promote(
    db: Db,
    user: User,
    once: OnceByHeader,
    name: str,
    number: RowId,
    request: Annotated[Promotion, Body(openapi_examples=PROMOTION)],
) -> VersionOut:
    """Promote or retire a version; another champion of the name is retired. An export that has not passed its gate
    needs a reason (422); 409 if its files were deleted, and if `revision` is outdated."""
    with db.transaction() as session:
        return once.keep(session, VersionOut.of(service.promote(session, name, number, request, user.user_id)))


@router.get("/{name}/versions/{number}/receipt", operation_id="getVersionReceipt", responses=problems(404, 409))
def receipt(session: Reading, name: str, number: RowId) -> Envelope:
    """The receipt that was signed when the version was registered. It outlives the export."""
    version = registry.version(session, registry.get(session, name), number)
    if not version.receipt:
        raise Conflict(
            _("%(name)s %(number)s was registered without a receipt: none could be signed.", name=name, number=number)
        )
    return Envelope.parse(version.receipt.encode())
