"""An installation in which everything is private to its member, and what another member gets from each route."""

from dataclasses import dataclass, field
from typing import Any

import httpx2
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.data.uploads import Part
from app.domain.imports.declared import ExternalStudySpec
from app.domain.imports.reports import RunOpening
from app.domain.models.exports import ExportFormat
from app.features.elsewhere.services import imports
from app.features.elsewhere.services import studies as external
from app.features.elsewhere.tables import ExternalTrackerExportRow, TrackerExportRow
from app.features.judging.tables import JudgementRow, JudgeScoreRow
from app.features.lab.tables import LabClassRow
from app.features.openai_jobs.tables import FineTuningJobRow
from app.features.recipes import service as recipes
from app.features.recipes.tables import RecipeRunRow
from app.features.shipping.tables import HubPushRow, ParityCheckRow
from app.services.users import users
from app.settings import Settings
from app.store.database.owned import Asked, Owned
from app.store.database.ownership import kinds
from app.store.tables import BaseModelRow, DatasetRow, RunRow, StudyRow, UploadRow, now
from tests.support.checks.access_table import filled_in
from tests.support.filled import exports as filled_exports
from tests.support.rows.accounts import Installation
from tests.support.rows.external import FULL, SPEC
from tests.support.rows.imported_results import as_file, result

MARK = "zephyr"
"""Part of every private name."""
DATASET, MODEL, COLLECTION = f"{MARK}-data", f"{MARK}-model", f"{MARK}-results"
RECIPE = "rank-ladder"


@dataclass
class PrivateInstallation(Installation):
    """Everything in it is private to its member; `other` is another member."""

    other: int = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        with self.database.transaction() as session:
            self.other = users.create(session, NewUser(email="other@example.org", role=Role.MEMBER)).id
            upload = UploadRow(source="files", name=f"{MARK}.csv", status="failed", message=f"{MARK} is no CSV")
            session.add(upload)
            session.flush()
            data = session.scalars(select(DatasetRow)).one()
            data.name, data.title, data.upload_id = DATASET, f"{MARK} title", upload.id
            session.get_one(BaseModelRow, 1).name = MODEL
            report = imports.add_results(session, imports.read_files([as_file(result())]), COLLECTION)
            upload.parts_json = [Part(name="x.csv", sha256="0" * 64, bytes=1, file="uploads/x.csv").model_dump()]
            job = FineTuningJobRow(request_json={"model": MODEL, "training_file": "file-1"}, upload_id=upload.id)
            job.run_id, job.status, job.owner_id = 1, "submitted", self.ids[Role.MEMBER]
            session.add(job)
            session.flush()
            self.job = job.id
            session.add(TrackerExportRow(study_id=1, epoch=1, next_at=now(), url=f"https://{MARK}.example.org"))
            session.add(RecipeRunRow(study_id=2, recipe=RECIPE, recipe_json=_recipe_of(session.get_one(StudyRow, 2))))
            self.export = filled_exports.add(session, 1, ExportFormat.ADAPTER, "succeeded")
            for row in session.scalars(select(StudyRow)):
                row.name = f"{MARK} {row.id}"
            self.upload, self.collection = upload.id, report.collection_id or 0
            self.imported = report.added[0]
            study = external.declare(session, ExternalStudySpec.model_validate(SPEC | {"name": f"{MARK} elsewhere"}))
            self.external = study.id
            session.add(
                ExternalTrackerExportRow(study_id=study.id, epoch=1, next_at=now(), url=f"https://{MARK}.example.org")
            )
            self.reported = external.open_run(session, study.id, RunOpening(key=MARK, arm=FULL, seed=0)).run_id
            member = self.ids[Role.MEMBER]
            push = HubPushRow(export_id=self.export, repository=f"{MARK}/model", card=MARK, user_id=member)
            session.add(push)
            session.flush()
            self.push = push.id
            check = ParityCheckRow(run_id=1, url=f"https://{MARK}.example.org/v1", model=MARK)
            session.add(check)
            session.flush()
            self.check = check.id
            judgement = JudgementRow(study_id=1, url=check.url, model=MARK, rubric=MARK, sample=2)
            session.add(judgement)
            session.flush()
            session.add(JudgeScoreRow(judgement_id=judgement.id, study_id=1, key=MARK, score=4))
            self.judgement = judgement.id
            lab_class = LabClassRow(name=MARK, teacher_id=member, code=MARK)
            session.add(lab_class)
            session.flush()
            self.lab_class = lab_class.id
            for table in kinds(Owned):
                session.execute(update(table).values(owner_id=member, private_to=member))
            for table in kinds(Asked):
                session.execute(update(table).values(owner_id=member))
            session.execute(update(RunRow).where(RunRow.study_id.is_(None)).values(note=MARK))

    def of_other(self) -> TestClient:
        """A program of the other member."""
        return self.program_of(self.other)

    def browser_of(self, user_id: int) -> TestClient:
        """A browser of a user that is a member."""
        member = self.ids[Role.MEMBER]
        self.ids[Role.MEMBER] = user_id
        try:
            return self.browser(Role.MEMBER)
        finally:
            self.ids[Role.MEMBER] = member

    def program_of(self, user_id: int) -> TestClient:
        """A program of a user that is a member."""
        member = self.ids[Role.MEMBER]
        self.ids[Role.MEMBER] = user_id
        try:
            return self.program(Role.MEMBER)
        finally:
            self.ids[Role.MEMBER] = member

    def keys(self, path: str) -> dict[str, str]:
        """Values for the parameters of a route that name an object."""
        values = {
            "run_id": "1",
            "study_id": "1",
            "artifact_id": "1",
            "collection_id": str(self.collection),
            "upload_id": str(self.upload),
            "export_id": str(self.export),
            "push_id": str(self.push),
            "check_id": str(self.check),
            "judgement_id": str(self.judgement),
            "job_id": f"ftjob-{self.job}",
            "file_id": f"file-{self.upload}",
            "class_id": str(self.lab_class),
            "estimate_id": "3",
            "kind": "studies",
            "key": "1",
            "owner": "studies",
            "owner_id": "1",
            "noun": "studies",
            "row_id": "1",
            "title": "full",
            "table": "runs",
            "ending": "csv" if "tables" in path else "svg",
            "figure": "labels",
            "recipe_id": RECIPE,
            "name": MODEL,
        }
        if path.startswith(("/data/", "/api/v1/datasets/")):
            values["name"] = DATASET
        elif path.endswith(("/reports", "/end")):
            values["run_id"] = str(self.reported)
        elif "external-studies" in path:
            values["collection_id"] = str(self.external)
        elif "charts" in path:
            values["name"] = "loss" if "runs" in path else "verdict"
        return values


BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/api/v1/studies/{study_id}/seeds"): {"count": 1},
    ("POST", "/api/v1/studies/{study_id}/arms"): {"method": {"kind": "ia3"}},
    ("PATCH", "/api/v1/studies/{study_id}"): {"note": "x"},
    ("PATCH", "/api/v1/runs/{run_id}"): {"note": "x"},
    ("PATCH", "/api/v1/queue/{noun}/{row_id}"): {"paused": True},
    ("POST", "/api/v1/studies/{study_id}/blind/ratings"): {"first": 1, "second": 2, "item": "0", "better": "tie"},
    ("POST", "/api/v1/external-studies/{collection_id}/runs"): {"key": "x", "arm": FULL, "seed": 1},
    ("POST", "/api/v1/runs/{run_id}/reports"): {"attempt": 1, "number": 1},
    ("POST", "/api/v1/runs/{run_id}/end"): {"attempt": 1, "outcome": "cancelled"},
    ("POST", "/api/v1/runs/{run_id}/exports"): {"format": "adapter"},
    ("POST", "/api/v1/exports/{export_id}/pushes"): {"repository": "someone/model"},
    ("POST", "/api/v1/runs/{run_id}/parity-checks"): {"url": "https://example.org/v1"},
    ("POST", "/api/v1/studies/{study_id}/judgements"): {"url": "https://example.org/v1", "model": "judge"},
    ("POST", "/api/v1/runs/{run_id}/predict"): {"inputs": ["x"]},
    ("POST", "/api/v1/classes/{class_id}/study"): {"plan": "ranks", "planned_seeds": 3},
    ("POST", "/api/v1/uploads/{upload_id}/read"): {},
    ("PATCH", "/api/v1/ownership/{kind}/{key:path}"): {"visibility": "team"},
}
"""Bodies of the API that are valid, so that the object is looked for."""
QUERIES = {
    "/api/v1/datasets/{name}/preview": f"?model={MODEL}",
    "/api/v1/studies/{study_id}/blind/next": "?first=1&second=2",
    "/api/v1/studies/{study_id}/blind/preference": "?first=1&second=2",
}
"""Parameters that a route requires."""
FORM = {
    "count": "1",
    "arms.0.method.kind": "ia3",
    "arm": "full",
    "archived": "true",
    "format": "adapter",
    "visibility": "team",
    "note": "x",
    "repository": "someone/model",
    "first": "1",
    "second": "2",
    "item": "0",
    "better": "tie",
    "paused": "true",
}
"""Enough for every form of a page about an object."""


def _recipe_of(study: StudyRow) -> dict[str, Any]:
    """The recipe as if it compared the first two arms of a study. Raises NotFound where there is no such recipe."""
    stored = recipes.get(RECIPE).model_dump(mode="json")
    first, second = (arm.title for arm in study.spec.arms[:2])
    stored["checks"] = stored["checks"][:1]
    stored["checks"][0]["statistic"]["weights"] = {first: 1, second: -1}
    for arm, title in zip(stored["study"]["arms"], (first, second), strict=False):
        arm["name"] = title
    return stored


def ask(client: TestClient, method: str, path: str, values: dict[str, str]) -> httpx2.Response:
    """Send a request to a route, with values for its parameters and a valid body."""
    address = path
    for name, value in values.items():
        for written in (f"{{{name}}}", f"{{{name}:int}}", f"{{{name}:path}}"):
            address = address.replace(written, value)
    address = filled_in(address) + QUERIES.get(path, "")
    if method == "GET" or path.startswith("/api/"):
        return client.request(method, address, json=BODIES.get((method, path)))
    return client.request(method, address, data=FORM)


def installed(settings: Settings) -> PrivateInstallation:
    """The installation on a filled database."""
    return PrivateInstallation(settings)
