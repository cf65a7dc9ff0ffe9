"""Exports of a run's model, from the request to the archive, on SQLite and on PostgreSQL."""

import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
import typer
from fastapi.testclient import TestClient
from huggingface_hub import constants
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.broker.queue import EXPORT
from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.methods import BottleneckAdapterSpec, FullSpec, LoraSpec, MethodSpec, PromptSpec
from app.domain.models.base_model import ModelFile
from app.domain.models.exports import SMALL_FILES_BYTES, ExportedFile, ExportFormat, ExportJob
from app.domain.runs.job import EvaluationReport
from app.domain.runs.result import ArtifactFile
from app.domain.runs.spec import RunSpec
from app.features.shipping.cli import exports as model_exports_cli
from app.features.shipping.cli import receipts as receipts_cli
from app.features.shipping.services import exports as model_exports
from app.features.shipping.services.work import EXPORTS
from app.features.shipping.tables import ModelExportRow
from app.main import create_app
from app.services.data import datasets as dataset_service
from app.services.ownership import deletion
from app.services.runs import attempts
from app.services.workers.sweep import sweep
from app.settings import ROOT, Settings
from app.store.database.session import Database
from app.store.files.files import Files, run_folder, sha256
from app.store.runs import queries as runs
from app.store.tables import BaseModelRow, EvaluationRow, now
from tests.support.fakes.fakes import SilentBell, UndoneOnce, WorkingBell
from tests.support.rows import attempted, exported
from tests.support.rows.results import evaluation, result
from tests.support.servers.served import served
from tests.support.tiny import texts as tiny
from worker.children.work import ReportProgress, WorkCancelled, WorkFailed
from worker.engine.device import environment
from worker.engine.models.inspect import inspect
from worker.features.shipping import child
from worker.features.shipping import node as tasks
from worker.features.shipping.exporting import export as export_module
from worker.features.shipping.exporting import merge
from worker.features.shipping.exporting.export import export as engine_export
from worker.features.shipping.exporting.progress import Report
from worker.features.shipping.host import ExportQueue
from worker.ingest.child import ProgressWriter
from worker.nodes import removal
from worker.nodes.context import Context

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
            raise WorkCancelled
        files, scores = engine_export(job, lambda share: None)
        return {"files": [file.model_dump() for file in files], "scores": scores.model_dump()}


@pytest.fixture
def worker(database: Database, settings: Settings, files: Files, bell: SilentBell) -> Context:
    """A worker in this process."""
    settings.home.mkdir(parents=True, exist_ok=True)
    return Context(
        settings.model_copy(update={"worker_name": "w1"}),
        database,
        files,
        bell,
        of_features={ExportQueue: InProcessExports()},
    )


class Saved(NamedTuple):
    """What a run has saved."""

    job: ExportJob
    scores: list[float]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """What a LoRA run on tiny BERT has saved, and its scores on the test items."""
    folder = tmp_path_factory.mktemp("saved")
    job, model = exported.run(folder, LORA, "bert", ExportFormat.ADAPTER)
    return Saved(*exported.predicted(job, model, folder))


@pytest.fixture
def run_id(worker: Context, saved: Saved) -> int:
    """That run, as it is in the store."""
    base = saved.job.job.model_location
    with worker.database.transaction() as session:
        facts = inspect(base, "")
        model = BaseModelRow(name="tiny", source="directory", location=base, status="ready", revision="")
        model.facts_json = facts.model_dump(mode="json")
        session.add(model)
        dataset_service.register(
            session, worker.files, name="words", title="Words", form="labelled", labels=tiny.LABELS, rows=tiny.rows()
        )
    files = {f"adapter/{path.name}": path for path in Path(saved.job.weights).iterdir()}
    files["predictions.parquet"] = Path(saved.job.predictions)
    return succeeded(worker, run_spec(), files, saved.scores)


def succeeded(worker: Context, spec: RunSpec, files: Mapping[str, Path], scores: Sequence[float] = ()) -> int:
    """A run that has succeeded, with its files by name and its scores on the test items."""
    run_id = attempted.submit(worker.database, SilentBell(), spec)
    kept, places = [], {}
    for name, path in files.items():
        kind = name.partition("/")[0].removesuffix(".parquet")
        places[name] = f"{run_folder(run_id)}/1/{name}"
        worker.files.put(path, places[name])
        about = {"name": name, "kind": kind, "bytes": path.stat().st_size, "sha256": sha256(path)}
        kept.append(ArtifactFile.model_validate(about))
    items = [row.item for row in tiny.rows() if row.split == "test"]
    with worker.database.transaction() as session:
        mine = attempts.claim(session, run_id, "w1", 45)
        assert mine is not None
        if scores:
            scored = EvaluationReport(evaluation=evaluation(accuracy=0.5), items=items, scores=list(scores))
            attempts.report(session, mine, 1, [scored], 45)
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
        return EXPORTS.get(session, export_id)


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
    gate = done.gate
    assert gate is not None and gate.weights is not None
    assert (gate.delta, gate.same, gate.weights.wrong) == (0.0, gate.items, [])
    assert gate.margin == 0.01 and gate.loaded_with.startswith("transformers ")
    assert (gate.versions, gate.code) == (environment.versions(), environment.source_hash())
    for file in done.files:
        with worker.files.open(f"{done.prefix}/{file.name}") as stored:
            assert hashlib.sha256(stored.read()).hexdigest() == file.sha256
    tasks.export(worker, export_id)
    assert row(worker, export_id).epoch == 1, "a second delivery finds nothing to claim"


def test_a_worker_that_stalls_after_its_claim_leaves_the_files_of_later_attempts(
    worker: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = submit(worker, run_id)
    with worker.database.transaction() as session:
        assert model_exports.begin(session, export_id) is not None
    silence(worker, export_id)
    left = f"{row(worker, export_id).prefix}/config.json"
    worker.files.put(ROOT / "pyproject.toml", left)
    remove, stalled = worker.files.remove, [True]

    def stall(name: str) -> None:
        """The second attempt stalls here, until the third has succeeded."""
        if stalled:
            stalled.clear()
            silence(worker, export_id)
            tasks.export(worker, export_id)
        remove(name)

    monkeypatch.setattr(worker.files, "remove", stall)
    tasks.export(worker, export_id)
    done = row(worker, export_id)
    assert (done.status, done.epoch) == ("succeeded", 3)
    assert worker.files.names(done.prefix) >= {f"{done.prefix}/{file.name}" for file in done.files}
    assert not worker.files.exists(left), "what earlier attempts left is removed"


def test_a_worker_repeats_what_a_deadlock_undid(worker: Context, run_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ((model_exports, "begin"), (EXPORTS, "progress"), (model_exports, "succeeded"))
    undone = {name: UndoneOnce(getattr(part, name)) for part, name in parts}
    for part, name in parts:
        monkeypatch.setattr(part, name, undone[name])
    export_id = submit(worker, run_id)
    tasks.export(worker, export_id)
    done = row(worker, export_id)
    assert (done.status, done.message, done.epoch, done.attempts) == ("succeeded", "", 1, 1)
    assert all(change.tries >= 2 for change in undone.values())


def test_what_a_deadlock_undid_rings_once(worker: Context, run_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    export_id = submit(worker, run_id)
    worker.bell.rung.clear()  # type: ignore[attr-defined]

    def stop(_job: ExportJob) -> None:
        raise WorkCancelled

    worker.one(ExportQueue).before = stop  # type: ignore[attr-defined]
    monkeypatch.setattr(EXPORTS, "give_back", give_back := UndoneOnce(EXPORTS.give_back))
    tasks.export(worker, export_id)
    assert give_back.tries == 2
    assert worker.bell.rung == [(EXPORT, export_id)]  # type: ignore[attr-defined]
    assert (row(worker, export_id).status, row(worker, export_id).attempts) == ("queued", 0)


@pytest.mark.slow
def test_a_file_that_arrives_after_a_cancel_is_removed(
    worker: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = submit(worker, run_id)
    put, discard = worker.files.put, worker.files.discard
    storing, discarded, stored = Event(), Event(), Event()

    def cancel_once_it_stores(session: Session, claim: model_exports.Claim, share: float) -> bool:
        if share < tasks.STORING:
            return progress(session, claim, share)
        storing.wait(60)
        return False

    def slow(source: Path, name: str) -> None:
        storing.set()
        discarded.wait(0.5)  # not before this has ended
        put(source, name)
        stored.set()

    def remember(name: str) -> None:
        discarded.set()
        discard(name)

    progress = EXPORTS.progress
    monkeypatch.setattr(EXPORTS, "progress", cancel_once_it_stores)
    monkeypatch.setattr(worker.files, "put", slow)
    monkeypatch.setattr(worker.files, "discard", remember)
    tasks.export(worker, export_id)
    assert stored.wait(60)
    assert worker.files.names(row(worker, export_id).prefix) == set()


def test_cancelling_stops_the_worker_and_leaves_no_file(worker: Context, run_id: int) -> None:
    export_id = submit(worker, run_id)

    def cancel(_job: ExportJob) -> None:
        with worker.database.transaction() as session:
            EXPORTS.cancel(session, export_id)

    worker.one(ExportQueue).before = cancel  # type: ignore[attr-defined]
    tasks.export(worker, export_id)
    ended = row(worker, export_id)
    assert (ended.status, ended.files) == ("cancelled", [])
    assert worker.files.names(ended.folder) == set()
    with worker.database.transaction() as session, pytest.raises(Conflict, match="already ended"):
        EXPORTS.cancel(session, export_id)
    again = submit(worker, run_id)
    assert again != export_id
    with worker.database.reading() as session, pytest.raises(NotFound):
        EXPORTS.get(session, export_id)


def test_a_worker_that_shuts_down_hands_the_export_back(worker: Context, run_id: int) -> None:
    export_id = submit(worker, run_id)

    def stop(_job: ExportJob) -> None:
        raise WorkCancelled

    worker.one(ExportQueue).before = stop  # type: ignore[attr-defined]
    tasks.export(worker, export_id)
    assert (row(worker, export_id).status, row(worker, export_id).attempts) == ("queued", 0)


def test_a_worker_that_shuts_down_while_it_stores_hands_the_export_back(
    worker: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id, put = submit(worker, run_id), worker.files.put

    def stop(file: Path, name: str) -> None:
        worker.one(ExportQueue).stop()
        put(file, name)

    monkeypatch.setattr(worker.files, "put", stop)
    tasks.export(worker, export_id)
    left = row(worker, export_id)
    assert (left.status, left.attempts) == ("queued", 0), "the attempt does not count"
    assert worker.files.names(left.folder) == set()


def test_a_failure_is_a_sentence_and_leaves_no_file(worker: Context, run_id: int) -> None:
    export_id = submit(worker, run_id)

    def fail(_job: ExportJob) -> None:
        raise WorkFailed("The export process was killed by signal 9.")

    worker.one(ExportQueue).before = fail  # type: ignore[attr-defined]
    tasks.export(worker, export_id)
    ended = row(worker, export_id)
    assert (ended.status, ended.message) == ("failed", "The export process was killed by signal 9.")
    assert worker.files.names(ended.folder) == set()


def test_an_export_of_a_run_with_other_test_items_fails(worker: Context, run_id: int) -> None:
    export_id = submit(worker, run_id)
    with worker.database.transaction() as session:
        session.execute(update(EvaluationRow).values(items_hash="0" * 64))
    tasks.export(worker, export_id)
    assert row(worker, export_id).status == "failed"
    assert "has no scores on the test items" in row(worker, export_id).message


def test_an_export_that_does_not_hold_what_the_run_trained_fails_its_gate(
    worker: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = merge.write

    def without_a_matrix(job: ExportJob, report: Report) -> list[ExportedFile]:
        files = write(job, report)
        weights = Path(job.job.output) / "model.safetensors"
        tensors = load_file(weights)
        name = next(name for name in tensors if name.endswith("query.weight"))
        save_file({**tensors, name: tensors[name] * 0.9}, weights, metadata={"format": "pt"})
        return files

    monkeypatch.setattr(export_module, "write", without_a_matrix)
    export_id = submit(worker, run_id)
    tasks.export(worker, export_id)
    gate = row(worker, export_id).gate
    assert gate is not None and gate.weights is not None
    assert gate.outcome is GateOutcome.FAIL
    assert [name.endswith("query.weight") for name in gate.weights.wrong] == [True]


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


def test_what_a_dead_attempt_left_does_not_fill_the_disk_of_the_next(
    worker: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = submit(worker, run_id)
    with worker.database.transaction() as session:
        assert model_exports.begin(session, export_id) is not None
    silence(worker, export_id)
    left = f"{row(worker, export_id).prefix}/model.safetensors"
    worker.files.put(ROOT / "pyproject.toml", left)

    def usage(_place: object) -> Any:
        return shutil._ntuple_diskusage(10**12, 0, 0 if worker.files.exists(left) else 10**12)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    tasks.export(worker, export_id)
    assert (row(worker, export_id).status, row(worker, export_id).message) == ("succeeded", "")


@pytest.mark.parametrize("where", ["store", "worker"])
def test_a_disk_that_fills_is_named_with_what_to_do(
    worker: Context, run_id: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(worker.files, "put" if where == "store" else "get", full)
    export_id = submit(worker, run_id)
    tasks.export(worker, export_id)
    place = worker.files.directory if where == "store" else worker.settings.home
    message = row(worker, export_id).message
    assert message.startswith(f"The worker's disk with {place.name} is full: ")
    assert message.endswith(" Free some space there, then export the run's model again.")
    assert (" are needed" in message) == (where == "store")


def test_a_full_disk_in_the_export_process_is_that_of_its_output(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(export_module, "write", full)
    message = child.answer(saved.job.model_dump_json(), ProgressWriter(io.StringIO()))["error"]
    assert message.startswith(f"The worker's disk with {saved.job.job.output} is full: ")
    assert message.endswith(" Free some space there, then export the run's model again.")


def test_the_workers_disk_must_hold_the_runs_weights_and_what_is_not_downloaded(
    worker: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_id = submit(worker, run_id)
    with worker.database.transaction() as session:
        claim = model_exports.begin(session, export_id)
    assert claim is not None
    saved = sum(file.bytes for file in claim.weights)
    export_bytes = 2 * (claim.weights_bytes + SMALL_FILES_BYTES)  # here and in the files store, on one disk
    free = [export_bytes + saved]
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: shutil._ntuple_diskusage(10**12, 0, free[0]))
    tasks._check_disk(worker, claim)
    free[0] -= 1
    with pytest.raises(Invalid, match="VEZNA_HOME"):
        tasks._check_disk(worker, claim)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(worker.settings.home / "hub"))
    missing = [ModelFile(name="model.safetensors", bytes=1000)]
    hub = {"model_location": "owner/name", "model_revision": "0" * 40, "model_files": missing}
    claim = replace(claim, job=claim.job.model_copy(update=hub))
    free[0] = export_bytes + saved + 999
    with pytest.raises(Invalid, match="VEZNA_HOME"):
        tasks._check_disk(worker, claim)
    free[0] += 1
    tasks._check_disk(worker, claim)


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
    weights = tmp_path / "x.safetensors"
    weights.write_bytes(b"12345")
    spec = run_spec(method)
    other = succeeded(worker, spec, {f"{'model' if isinstance(method, FullSpec) else 'adapter'}/x": weights})
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
        submit(worker, succeeded(worker, spec, {}))
    submit(worker, run_id)
    with pytest.raises(Conflict, match="already has the export merged-float32"):
        submit(worker, run_id)


def test_deleting_an_export_or_its_run_removes_its_files(worker: Context, run_id: int) -> None:
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
    assert removed.files == len(row(worker, export_id).files) + 3, "its own files and those of the export"
    with worker.database.transaction() as session:
        deletion.delete_run(session, worker.files, run_id)
    assert not worker.files.exists(run_folder(run_id))


def test_files_of_exports_that_could_not_be_removed_are_removed_after_a_day(
    worker: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "RUNS_SECONDS", 0.0)
    monkeypatch.setattr(removal, "_runs_due", 0.0)
    deleted = submit(worker, run_id, ExportFormat.ADAPTER)
    tasks.export(worker, deleted)
    gone = row(worker, deleted).prefix
    with monkeypatch.context() as outage:
        outage.setattr(worker.files, "remove", Mock(side_effect=OSError("the store is away")))
        worker.database.write(lambda session: model_exports.delete(session, worker.files, deleted))
    done, running, cancelled = (submit(worker, run_id, form) for form in list(ExportFormat)[:3])
    tasks.export(worker, done)
    for lost in (running, cancelled):
        worker.database.write(partial(model_exports.begin, export_id=lost))
    silence(worker, running)
    worker.database.write(lambda session: model_exports.begin(session, running))
    worker.database.write(lambda session: EXPORTS.cancel(session, cancelled))
    live = row(worker, running)
    strays = [f"{live.folder}/1", row(worker, cancelled).prefix]
    for prefix in (*strays, live.prefix):
        worker.files.put(ROOT / "pyproject.toml", f"{prefix}/config.json")
    before = worker.files.names_below("runs")
    assert any(name.startswith(gone) for name in before)

    removal.remove_unneeded(worker)
    assert worker.files.names_below("runs") == before, "they may be about to be named, or removed"

    for name in before:
        os.utime(Path(worker.files.root, name), (0, 0))
    new = f"{gone}/new.json"
    worker.files.put(ROOT / "pyproject.toml", new)
    removal.remove_unneeded(worker)
    left = worker.files.names_below("runs")
    assert left == {name for name in before if not name.startswith(tuple(f"{stray}/" for stray in strays))} | {new}

    os.utime(Path(worker.files.root, new), (0, 0))
    removal.remove_unneeded(worker)
    assert worker.files.names_below("runs") == {name for name in left if not name.startswith(f"{gone}/")}
    assert not worker.files.exists(row(worker, cancelled).prefix) and worker.files.exists(live.prefix)


def test_over_rest_from_the_formats_to_an_archive_whose_checksums_match(
    worker: Context, run_id: int, settings: Settings, tmp_path: Path
) -> None:
    app = create_app(settings)
    app.state.doorbell = worker.bell
    with TestClient(app, base_url="http://127.0.0.1/api/v1") as api:
        formats = {form["format"]: form for form in api.get(f"/runs/{run_id}/export-formats").json()}
        assert formats["merged-bfloat16"]["weights_bytes"] < formats["merged-float32"]["weights_bytes"]
        refused = api.post(f"/runs/{run_id}/exports", json={"format": "onnx-int4"})
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
        assert (listed["gate"]["outcome"], listed["gate"]["weights"]["wrong_count"]) == ("undecided", 0)
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
        assert (folder / "receipt.json").read_bytes() == api.get(f"/exports/{export_id}/receipt").content
        every = api.get(f"/runs/{run_id}/exports/archive")
        assert int(every.headers["content-length"]) == len(every.content)
        with tarfile.open(fileobj=io.BytesIO(every.content)) as tar:
            assert {name.partition("/")[0] for name in tar.getnames()} == {folder.name}
            assert f"{folder.name}/receipt.json" in tar.getnames()
        assert api.post(f"/exports/{export_id}/cancel").status_code == 409
        assert api.delete(f"/exports/{export_id}").status_code == 204
        assert api.get(f"/exports/{export_id}").status_code == 404


def test_a_run_has_no_formats_before_it_has_succeeded(worker: Context, run_id: int) -> None:
    spec = run_spec()
    queued = attempted.submit(worker.database, SilentBell(), spec)
    with worker.database.reading() as session:
        assert model_exports.offers(session, runs.get(session, queued)) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_export_process_writes_and_scores_an_export(
    worker: Context, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    worker = replace(worker, of_features={})
    export_id = submit(worker, run_id, ExportFormat.MERGED_BFLOAT16)
    tasks.export(worker, export_id)
    done = row(worker, export_id)
    assert (done.status, done.message) == ("succeeded", "")
    assert done.gate is not None and done.gate.weights is not None and done.gate.weights.wrong == []
    with worker.database.transaction() as session:
        session.execute(update(BaseModelRow).values(location="/nowhere"))
    failed = submit(worker, run_id)
    tasks.export(worker, failed)
    assert "does not exist on this worker" in row(worker, failed).message


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_command_line_exports_and_downloads(
    worker: Context,
    run_id: int,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = create_app(settings)
    app.state.doorbell = WorkingBell(task=EXPORT, work=partial(tasks.export, worker))
    monkeypatch.chdir(tmp_path)
    with served(app) as url:
        model_exports_cli.export_model(run_id, url=url)
        assert "merged-bfloat16" in (listed := capsys.readouterr().out) and "(computed)" in listed
        model_exports_cli.export_model(run_id, MERGED, url=url)
        printed = capsys.readouterr().out
        assert f"Wrote run-{run_id}-merged-float32.tar" in printed and "Gate: undecided (0.0" in printed
        with tarfile.open(tmp_path / f"run-{run_id}-merged-float32.tar") as tar:
            assert f"run-{run_id}-merged-float32/SHA256SUMS" in tar.getnames()
        model_exports_cli.export_model(run_id, MERGED, tmp_path / "again.tar", url=url)
        assert (tmp_path / "again.tar").is_file(), "an export that exists is downloaded again"
        receipts_cli.verify(tmp_path / "again.tar", url=url)
        assert "The signature is valid" in capsys.readouterr().out
        with worker.database.transaction() as session:
            [stored] = EXPORTS.of(session, run_id)
            assert stored.gate_json is not None
            wrong = {"tensors": 9, "wrong": ["bert.query.weight"], "wrong_count": 300, "largest_error": 5.0}
            stored.gate_json = {**stored.gate_json, "outcome": "fail", "weights": wrong}
        with pytest.raises(typer.Exit) as ended:
            model_exports_cli.export_model(run_id, MERGED, tmp_path / "failed.tar", url=url)
        assert ended.value.exit_code == 1
        printed = " ".join(capsys.readouterr().out.split())
        assert "Gate: fail" in printed and "300 tensors differ from W + ΔW, such as bert.query.weight" in printed
