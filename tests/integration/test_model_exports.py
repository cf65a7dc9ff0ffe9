"""Exports of a run's model, from the request to the archive, on SQLite and on PostgreSQL."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.methods import BottleneckAdapterSpec, FullSpec, LoraSpec, MethodSpec, PromptSpec
from app.domain.models.exports import ExportFormat, ExportJob
from app.domain.runs.result import ArtifactFile
from app.domain.runs.spec import RunSpec
from app.queue import EXPORT
from app.services import attempts, model_exports
from app.services import datasets as dataset_service
from app.services.sweep import sweep
from app.settings import Settings
from app.store.files import Files, run_folder, sha256
from app.store.queries import model_exports as queries
from app.store.queries import runs
from app.store.session import Database
from app.store.tables import BaseModelRow, ModelExportRow, now
from tests import attempted, exported, tiny
from tests.fakes import SilentBell
from tests.results import result
from worker.context import Context
from worker.engine.exporting.export import export as engine_export
from worker.engine.models.inspect import inspect
from worker.exports import tasks
from worker.exports.host import ExportQueue
from worker.ingest.host import IngestCancelled, IngestFailed, ReportProgress

LORA = LoraSpec(r=2, target_modules=["query"])
MERGED = ExportFormat.MERGED_FLOAT32


class InProcessExports(ExportQueue):
    """Exports in this process instead of a child process; `before` is called first."""

    before: Any = staticmethod(lambda job: None)

    def run(
        self, request: Mapping[str, object], report: ReportProgress, *, command: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        job = ExportJob.model_validate_json(json.dumps(request))
        self.before(job)
        if not report(0.5, 0):
            raise IngestCancelled
        return {"files": [file.model_dump() for file in engine_export(job, lambda share: None)]}


@pytest.fixture
def worker(database: Database, settings: Settings, files: Files, bell: SilentBell) -> Context:
    """A worker in this process."""
    settings.home.mkdir(parents=True, exist_ok=True)
    return Context(
        settings.model_copy(update={"worker_name": "w1"}), database, files, bell, exporter=InProcessExports()
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> ExportJob:
    """What a LoRA run on tiny BERT has saved."""
    return exported.run(tmp_path_factory.mktemp("saved"), LORA, "bert", ExportFormat.ADAPTER)[0]


@pytest.fixture
def run_id(worker: Context, saved: ExportJob) -> int:
    """That run, as it is in the store."""
    base = saved.job.model_location
    with worker.database.transaction() as session:
        facts = inspect(base, "")
        model = BaseModelRow(name="tiny", source="directory", location=base, status="ready", revision="")
        model.facts_json = facts.model_dump(mode="json")
        session.add(model)
        dataset_service.register(
            session, worker.files, name="words", title="Words", form="labelled", labels=tiny.LABELS, rows=tiny.rows()
        )
    return succeeded(worker, run_spec(), Path(saved.weights))


def succeeded(worker: Context, spec: RunSpec, weights: Path | None) -> int:
    """A run that has succeeded and saved the files of a folder."""
    run_id = attempted.submit(worker.database, SilentBell(), spec)
    kept, places = [], {}
    for path in sorted(weights.iterdir()) if weights else []:
        kind = "model" if weights and weights.name == "model" else "adapter"
        name = f"{kind}/{path.name}"
        places[name] = f"{run_folder(run_id)}/1/{name}"
        worker.files.put(path, places[name])
        kept.append(ArtifactFile(name=name, kind=kind, bytes=path.stat().st_size, sha256=sha256(path)))  # type: ignore[arg-type]
    with worker.database.transaction() as session:
        mine = attempts.claim(session, run_id, "w1", 45)
        assert mine is not None
        attempts.finish(session, SilentBell(), mine, result(0.5).model_copy(update={"artifacts": kept}), places)
    return run_id


def run_spec(method: MethodSpec = LORA) -> RunSpec:
    """A run on the tiny model."""
    return RunSpec(base_model="tiny", dataset="words", method=method, training=tiny.FAST)


def submit(worker: Context, run_id: int, form: ExportFormat = MERGED) -> int:
    with worker.database.transaction() as session:
        return model_exports.submit(session, worker.bell, worker.files, run_id, form).id


def row(worker: Context, export_id: int) -> ModelExportRow:
    with worker.database.reading() as session:
        return queries.get(session, export_id)


def silence(worker: Context, export_id: int) -> None:
    """Have its worker be lost for long."""
    long_ago = {"seen_at": now() - timedelta(days=1), "rung_at": now() - timedelta(days=1)}
    with worker.database.transaction() as session:
        session.execute(update(ModelExportRow).where(ModelExportRow.id == export_id).values(**long_ago))


def sweep_once(worker: Context) -> None:
    with worker.database.transaction() as session:
        sweep(session, worker.bell, worker.settings)


def test_an_export_has_the_predicted_size_and_its_files_are_in_the_store(worker: Context, run_id: int) -> None:
    export_id = submit(worker, run_id)
    assert (EXPORT, export_id) in [(task, *args) for task, *args in worker.bell.rung]  # type: ignore[attr-defined]
    tasks.export(worker, export_id)
    done = row(worker, export_id)
    assert (done.status, done.message, done.progress) == ("succeeded", "", 1.0)
    assert done.weights_bytes == done.predicted_bytes
    for file in done.files:
        with worker.files.open(f"{done.prefix}/{file.name}") as stored:
            assert hashlib.sha256(stored.read()).hexdigest() == file.sha256
    tasks.export(worker, export_id)
    assert row(worker, export_id).epoch == 1, "a second delivery finds nothing to claim"


def test_a_lost_worker_is_noticed_and_what_it_writes_later_has_no_effect(worker: Context, run_id: int) -> None:
    export_id = submit(worker, run_id)
    with worker.database.transaction() as session:
        lost = model_exports.begin(session, export_id)
        assert lost is not None
        assert model_exports.begin(session, export_id) is None, "a live worker has it"
    silence(worker, export_id)
    worker.bell.rung.clear()  # type: ignore[attr-defined]
    sweep_once(worker)
    assert (EXPORT, export_id) in [(task, *args) for task, *args in worker.bell.rung]  # type: ignore[attr-defined]
    tasks.export(worker, export_id)
    with worker.database.transaction() as session:
        assert not model_exports.progress(session, lost, 0.7)
        assert not model_exports.succeeded(session, lost, [])
        assert not model_exports.failed(session, lost, "late")
    done = row(worker, export_id)
    assert (done.status, done.epoch, len(done.files) > 3) == ("succeeded", 2, True)


def test_an_export_that_always_loses_its_worker_fails(worker: Context, run_id: int) -> None:
    export_id = submit(worker, run_id)
    for _attempt in range(worker.settings.max_attempts):
        with worker.database.transaction() as session:
            assert model_exports.begin(session, export_id) is not None
        silence(worker, export_id)
    sweep_once(worker)
    assert row(worker, export_id).status == "failed"
    assert "lost in 3 attempts" in row(worker, export_id).message


def test_cancelling_stops_the_worker_and_leaves_no_file(worker: Context, run_id: int) -> None:
    export_id = submit(worker, run_id)

    def cancel(_job: ExportJob) -> None:
        with worker.database.transaction() as session:
            model_exports.cancel(session, export_id)

    worker.exporter.before = cancel  # type: ignore[attr-defined]
    tasks.export(worker, export_id)
    ended = row(worker, export_id)
    assert (ended.status, ended.files) == ("cancelled", [])
    assert worker.files.names(ended.folder) == set()
    with worker.database.transaction() as session, pytest.raises(Conflict, match="already ended"):
        model_exports.cancel(session, export_id)
    again = submit(worker, run_id)
    assert again != export_id
    with worker.database.reading() as session, pytest.raises(NotFound):
        queries.get(session, export_id)


def test_a_worker_that_shuts_down_hands_the_export_back(worker: Context, run_id: int) -> None:
    export_id = submit(worker, run_id)

    def stop(_job: ExportJob) -> None:
        raise IngestCancelled

    worker.exporter.before = stop  # type: ignore[attr-defined]
    tasks.export(worker, export_id)
    assert (row(worker, export_id).status, row(worker, export_id).attempts) == ("queued", 0)


def test_a_failure_is_a_sentence_and_leaves_no_file(worker: Context, run_id: int) -> None:
    export_id = submit(worker, run_id)

    def fail(_job: ExportJob) -> None:
        raise IngestFailed("The export process was killed by signal 9.")

    worker.exporter.before = fail  # type: ignore[attr-defined]
    tasks.export(worker, export_id)
    ended = row(worker, export_id)
    assert (ended.status, ended.message) == ("failed", "The export process was killed by signal 9.")
    assert worker.files.names(ended.folder) == set()


def test_a_missing_base_model_and_a_changed_one_are_named(worker: Context, run_id: int, tmp_path: Path) -> None:
    with worker.database.transaction() as session:
        model = session.get(BaseModelRow, 1)
        assert model is not None
        elsewhere = shutil.copytree(model.location, tmp_path / "moved")
        model.location = str(elsewhere)
    (elsewhere / "config.json").write_text((elsewhere / "config.json").read_text() + " ")
    first = submit(worker, run_id)
    tasks.export(worker, first)
    assert "have changed since it was inspected" in row(worker, first).message
    shutil.rmtree(elsewhere)
    second = submit(worker, run_id)
    tasks.export(worker, second)
    assert "does not exist on this worker" in row(worker, second).message


def test_too_little_disk_is_noticed_at_submission_and_by_the_worker(
    worker: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = submit(worker, run_id)
    full = shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: full)
    with pytest.raises(Invalid) as refused:
        submit(worker, run_id, ExportFormat.MERGED_BFLOAT16)
    assert refused.value.fields[0].path == "format"
    assert "the files store has 0 MiB free. Free some space" in refused.value.fields[0].sentence
    tasks.export(worker, export_id)
    assert row(worker, export_id).status == "failed"
    assert "the worker (VEZNA_HOME) has 0 MiB free" in row(worker, export_id).message


@pytest.mark.parametrize(
    ("method", "form", "why"),
    [
        (PromptSpec(num_virtual_tokens=4), MERGED, "cannot be merged: virtual tokens are inputs"),
        (BottleneckAdapterSpec(bottleneck_size=4), MERGED, "cannot be merged: each adapter has a non-linearity"),
        (FullSpec(), ExportFormat.ADAPTER, "trains the model's own weights, so there is no adapter"),
    ],
    ids=["prompt", "bottleneck", "full"],
)
def test_a_method_that_does_not_suit_the_format_is_refused(
    worker: Context, run_id: int, method: MethodSpec, form: ExportFormat, why: str, tmp_path: Path
) -> None:
    weights = tmp_path / ("model" if isinstance(method, FullSpec) else "adapter")
    weights.mkdir()
    (weights / "x.safetensors").write_bytes(b"12345")
    spec = run_spec(method)
    other = succeeded(worker, spec, weights)
    with pytest.raises(Invalid) as refused:
        submit(worker, other, form)
    assert why in refused.value.fields[0].message
    assert refused.value.fields[0].remedy


def test_runs_without_weights_and_second_exports_are_conflicts(worker: Context, run_id: int) -> None:
    spec = run_spec()
    queued = attempted.submit(worker.database, SilentBell(), spec)
    with pytest.raises(Conflict, match=r"is queued\. Export a run that has succeeded"):
        submit(worker, queued)
    with pytest.raises(Conflict, match="has saved no weights"):
        submit(worker, succeeded(worker, spec, None))
    submit(worker, run_id)
    with pytest.raises(Conflict, match="already has the export merged-float32"):
        submit(worker, run_id)


def test_deleting_an_export_or_its_run_removes_its_files(worker: Context, run_id: int) -> None:
    from app.services import deletion  # noqa: PLC0415

    export_id = submit(worker, run_id)
    tasks.export(worker, export_id)
    folder = row(worker, export_id).folder
    with worker.database.transaction() as session:
        model_exports.delete(session, worker.files, export_id)
    assert worker.files.names(folder) == set()
    export_id = submit(worker, run_id)
    tasks.export(worker, export_id)
    with worker.database.reading() as session:
        removed = deletion.of_run(session, run_id)
    assert removed.files == len(row(worker, export_id).files) + 2, "its own files and those of the export"
    with worker.database.transaction() as session:
        deletion.delete_run(session, worker.files, run_id)
    assert not worker.files.exists(run_folder(run_id))


def test_over_rest_from_the_formats_to_an_archive_whose_checksums_match(
    worker: Context, run_id: int, settings: Settings, tmp_path: Path
) -> None:
    from app.main import create_app  # noqa: PLC0415

    app = create_app(settings)
    app.state.doorbell = worker.bell
    with TestClient(app, base_url="http://127.0.0.1/api/v1") as api:
        formats = {form["format"]: form for form in api.get(f"/runs/{run_id}/export-formats").json()}
        assert formats["merged-bfloat16"]["weights_bytes"] < formats["merged-float32"]["weights_bytes"]
        refused = api.post(f"/runs/{run_id}/exports", json={"format": "onnx"})
        assert refused.status_code == 422 and "errors" in refused.json()
        asked = api.post(
            f"/runs/{run_id}/exports", json={"format": "merged-bfloat16"}, headers={"Idempotency-Key": '"k"'}
        )
        again = api.post(
            f"/runs/{run_id}/exports", json={"format": "merged-bfloat16"}, headers={"Idempotency-Key": '"k"'}
        )
        assert (asked.status_code, again.json()) == (202, asked.json())
        export_id = asked.json()["id"]
        assert api.get(f"/exports/{export_id}/archive").status_code == 409
        tasks.export(worker, export_id)
        assert api.get(f"/exports/{export_id}", params={"wait": 5}).json()["status"] == "succeeded"
        [listed] = api.get(f"/runs/{run_id}/exports").json()
        assert listed["bytes"] == sum(file["bytes"] for file in listed["files"])
        archive = api.get(f"/exports/{export_id}/archive")
        assert int(archive.headers["content-length"]) == len(archive.content)
        with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
            tar.extractall(tmp_path, filter="data")
        folder = tmp_path / f"run-{run_id}-merged-bfloat16"
        checked = subprocess.run(
            ["sha256sum", "--check", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0 and checked.stdout.count(": OK") == len(listed["files"]) - 1
        assert api.post(f"/exports/{export_id}/cancel").status_code == 409
        assert api.delete(f"/exports/{export_id}").status_code == 204
        assert api.get(f"/exports/{export_id}").status_code == 404


def test_a_run_has_no_formats_before_it_has_succeeded(worker: Context, run_id: int) -> None:
    spec = run_spec()
    queued = attempted.submit(worker.database, SilentBell(), spec)
    with worker.database.reading() as session:
        assert model_exports.offers(session, runs.get(session, queued)) == []
