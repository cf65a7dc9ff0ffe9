"""The tables of the core, known to `Base.metadata` once this is imported; `app.feature.load_tables` adds the others."""

from app.store.data.tables import DatasetRow, UploadRow
from app.store.database.base import Base, now
from app.store.models.tables import BaseModelRow, HubTokenRow
from app.store.requests.tables import FormKeyRow, IdempotencyKeyRow
from app.store.resources.tables import DeviceRow, EstimateRow
from app.store.runs.tables.parts import (
    ArtifactRow,
    EndedRunRow,
    EvaluationRow,
    RunEventRow,
    StepChunkRow,
    WeightDeltasRow,
)
from app.store.runs.tables.run import RunRow
from app.store.studies.tables import CollectionRow, RunTagRow, StudyRow, StudyTagRow
from app.store.users.tables import (
    ApiTokenRow,
    AuditEventRow,
    LoginFailuresRow,
    LoginSessionRow,
    OneTimeLinkRow,
    UserRow,
)
from app.store.workers.tables import ClockRow, DeviceUsageRow, WorkerRow, WorkRow

__all__ = [
    "ApiTokenRow",
    "ArtifactRow",
    "AuditEventRow",
    "Base",
    "BaseModelRow",
    "ClockRow",
    "CollectionRow",
    "DatasetRow",
    "DeviceRow",
    "DeviceUsageRow",
    "EndedRunRow",
    "EstimateRow",
    "EvaluationRow",
    "FormKeyRow",
    "HubTokenRow",
    "IdempotencyKeyRow",
    "LoginFailuresRow",
    "LoginSessionRow",
    "OneTimeLinkRow",
    "RunEventRow",
    "RunRow",
    "RunTagRow",
    "StepChunkRow",
    "StudyRow",
    "StudyTagRow",
    "UploadRow",
    "UserRow",
    "WeightDeltasRow",
    "WorkRow",
    "WorkerRow",
    "now",
]
