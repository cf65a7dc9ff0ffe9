"""The tables, one noun a file. Importing this package makes all of them known to `Base.metadata`."""

from app.store.tables.artifact import ArtifactRow
from app.store.tables.audit import AuditEventRow
from app.store.tables.base import Base, now
from app.store.tables.base_model import BaseModelRow
from app.store.tables.blind_rating import BlindRatingRow
from app.store.tables.clock import ClockRow
from app.store.tables.collection import CollectionRow
from app.store.tables.dataset import DatasetRow
from app.store.tables.device import DeviceRow
from app.store.tables.estimate import EstimateRow
from app.store.tables.evaluation import EvaluationRow
from app.store.tables.event import RunEventRow
from app.store.tables.fine_tuning_job import FineTuningJobRow
from app.store.tables.form_key import FormKeyRow
from app.store.tables.hub_push import HubPushRow
from app.store.tables.hub_token import HubTokenRow
from app.store.tables.idempotency import IdempotencyKeyRow
from app.store.tables.judgement import JudgementRow, JudgeScoreRow
from app.store.tables.lab import LabAnswerRow, LabCardRow, LabProgressRow
from app.store.tables.lab_class import LabClassRow, LabClassSeedRow, LabClassStudyRow, LabMemberRow
from app.store.tables.model_export import ModelExportRow
from app.store.tables.openid import ExternalIdentityRow, OpenIdLoginRow
from app.store.tables.parity_check import ParityCheckRow
from app.store.tables.quota import DeviceUsageRow, QuotaLimitRow
from app.store.tables.recipe_run import RecipeRunRow
from app.store.tables.registry import ModelVersionRow, RegisteredModelRow, StageChangeRow
from app.store.tables.run import RunRow
from app.store.tables.run_host import RunHostRow
from app.store.tables.second_factor import PendingLoginRow, RecoveryCodeRow, SecondFactorRow
from app.store.tables.steps import StepChunkRow
from app.store.tables.study import StudyRow
from app.store.tables.tag import RunTagRow, StudyTagRow
from app.store.tables.tracker_export import ExternalTrackerExportRow, TrackerExportRow
from app.store.tables.upload import UploadRow
from app.store.tables.user import ApiTokenRow, LoginFailuresRow, LoginSessionRow, OneTimeLinkRow, UserRow
from app.store.tables.webhook import EndedRunRow, WebhookDeliveryRow, WebhookRow
from app.store.tables.weight_delta import WeightDeltasRow
from app.store.tables.work import WorkRow
from app.store.tables.worker import WorkerRow

__all__ = [
    "ApiTokenRow",
    "ArtifactRow",
    "AuditEventRow",
    "Base",
    "BaseModelRow",
    "BlindRatingRow",
    "ClockRow",
    "CollectionRow",
    "DatasetRow",
    "DeviceRow",
    "DeviceUsageRow",
    "EndedRunRow",
    "EstimateRow",
    "EvaluationRow",
    "ExternalIdentityRow",
    "ExternalTrackerExportRow",
    "FineTuningJobRow",
    "FormKeyRow",
    "HubPushRow",
    "HubTokenRow",
    "IdempotencyKeyRow",
    "JudgeScoreRow",
    "JudgementRow",
    "LabAnswerRow",
    "LabCardRow",
    "LabClassRow",
    "LabClassSeedRow",
    "LabClassStudyRow",
    "LabMemberRow",
    "LabProgressRow",
    "LoginFailuresRow",
    "LoginSessionRow",
    "ModelExportRow",
    "ModelVersionRow",
    "OneTimeLinkRow",
    "OpenIdLoginRow",
    "ParityCheckRow",
    "PendingLoginRow",
    "QuotaLimitRow",
    "RecipeRunRow",
    "RecoveryCodeRow",
    "RegisteredModelRow",
    "RunEventRow",
    "RunHostRow",
    "RunRow",
    "RunTagRow",
    "SecondFactorRow",
    "StageChangeRow",
    "StepChunkRow",
    "StudyRow",
    "StudyTagRow",
    "TrackerExportRow",
    "UploadRow",
    "UserRow",
    "WebhookDeliveryRow",
    "WebhookRow",
    "WeightDeltasRow",
    "WorkRow",
    "WorkerRow",
    "now",
]
