"""`vezna doctor` names what is wrong with an installation and what to do; `vezna --version`."""

import fcntl
import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.cli.checks import doctor, machine, services
from app.domain.resources.devices import GIB, Gpu, VisibleGpu
from app.services.workers import workers
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.resources import devices
from app.store.tables import RunRow, WorkerRow
from app.store.workers import clock
from app.store.workers import queries as worker_queries
from tests.conftest import register_tiny
from tests.integration.web.test_cli import vezna

Found = dict[str, list[dict[str, Any]]]
CARDS = '{"cards": [{"uuid": "a", "name": "A100", "memory_bytes": 1, "bf16": true, "problem": "%s"}], "problem": ""}'


@pytest.fixture
def installed(tmp_path: Path, migrated_file: Path, broker: str, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A sound installation with an idle worker; its GPU is not asked."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(migrated_file, home / "vezna.sqlite")
    monkeypatch.setenv("VEZNA_HOME", str(home))
    monkeypatch.setenv("VEZNA_BROKER_URL", broker)
    monkeypatch.delenv("VEZNA_DATABASE_URL", raising=False)
    monkeypatch.setattr(machine, "LITTLE_DISK", 0)
    monkeypatch.setattr(machine, "NO_DISK", 0)
    monkeypatch.setattr(machine, "LITTLE_TEMPORARY", 0)
    answering(monkeypatch, '{"cards": [], "problem": "torch is built for the CPU"}')
    database = Database(f"sqlite:///{home / 'vezna.sqlite'}")
    with database.transaction() as session:
        workers.sign_on(session, "w1", device="cpu", device_name="", memory_bytes=None, cores=1)
    return database


def answering(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Have the process that lets torch look at the GPUs print something."""
    monkeypatch.setattr(machine, "PROBE", (sys.executable, "-c", f"print({answer!r})"))


def examined() -> Found:
    """The findings by check."""
    found: Found = {}
    for finding in doctor.examine():
        found.setdefault(finding.check, []).append(
            {"state": finding.state, "message": finding.message, "remedy": finding.remedy}
        )
    return found


def only_problem(found: Found, check: str) -> dict[str, Any]:
    """The only check that found a problem, which names a remedy."""
    problems = {name for name, findings in found.items() if any(f["state"] == "problem" for f in findings)}
    assert problems == {check}, found
    [problem] = [finding for finding in found[check] if finding["state"] == "problem"]
    assert problem["remedy"]
    return problem


def test_a_sound_installation_has_no_problem(
    installed: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vezna(monkeypatch, "doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {finding["state"] for finding in found} == {"ok"}, found
    checks = {finding["check"] for finding in found}
    assert checks == {
        *("python", "libraries", "home", "disk", "temporary files", "database"),
        *("workers", "broker", "files", "gpu"),
    }
    assert not list(Path(installed.url.database or "").parent.glob("files/uploads/*"))


@pytest.mark.slow
def test_problems_are_printed_with_remedies_and_the_exit_status_is_1(
    installed: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VEZNA_BROKER_URL", "redis://127.0.0.1:9/0")
    assert vezna(monkeypatch, "doctor") == 1
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if line.startswith("problem")]
    assert line.startswith("problem  broker: It does not answer. Start it")
    assert [line for line in lines if line.startswith("ok       database: SQLite at revision")]


def test_a_database_of_another_revision_and_one_that_is_missing(installed: Database) -> None:
    with installed.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    assert "development version of Vezna made this database (0001)" in only_problem(examined(), "database")["message"]
    installed.dispose()
    Path(installed.url.database or "").unlink()
    assert "vezna migrate" in only_problem(examined(), "database")["remedy"]
    assert not Path(installed.url.database or "").exists()


def test_a_server_that_does_not_answer_is_named(installed: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEZNA_DATABASE_URL", "postgresql://user:secret@127.0.0.1:9/vezna")
    problem = only_problem(examined(), "database")
    assert "does not answer" in problem["message"]
    assert "secret" not in problem["message"]


def test_a_wrong_setting_is_named(installed: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEZNA_LEASE_SECONDS", "1")
    assert "VEZNA_HEARTBEAT_SECONDS" in only_problem(examined(), "settings")["message"]


def test_a_lost_worker_and_an_absent_control_node(installed: Database, filled_file: Path) -> None:
    installed.dispose()
    shutil.copy(filled_file, installed.url.database or "")
    with installed.transaction() as session:
        session.execute(text("DELETE FROM workers"))
        workers.sign_on(session, "w1", device="cpu", device_name="", memory_bytes=None, cores=1)
        session.add(WorkerRow(name="w2", heartbeat_at=clock.now(session) - timedelta(hours=1)))
        session.execute(text("UPDATE runs SET rung_at = '2026-01-01 00:00:00', status = 'queued' WHERE id = 1"))
    found = examined()
    assert "no control node sweeps" in only_problem(found, "control")["message"]
    assert [(f["state"], f["message"][:10]) for f in found["workers"]] == [
        ("ok", "w1 is idle"),
        ("warning", "w2 is lost"),
    ]
    with installed.transaction() as session:
        session.execute(text("DELETE FROM workers WHERE name = 'w1'"))
    assert "No worker" in only_problem(examined(), "workers")["message"]


def test_a_broken_gpu_and_a_probe_that_fails(installed: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, CARDS % "")
    assert examined()["gpu"] == [{"state": "ok", "message": "A100 works (a)", "remedy": ""}]
    answering(monkeypatch, CARDS % "no kernel image")
    assert "no kernel image" in only_problem(examined(), "gpu")["message"]
    answering(monkeypatch, "Segmentation fault")
    assert "torch cannot be used" in only_problem(examined(), "gpu")["message"]
    answering(monkeypatch, '{"cards": [], "problem": "torch is built for the CPU"}')
    monkeypatch.setenv("VEZNA_DEVICE", "cuda")
    assert "built for the CPU" in only_problem(examined(), "gpu")["message"]


def test_little_space_warns_and_none_is_a_problem(installed: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LITTLE_DISK", 1 << 60)
    assert examined()["disk"][0]["state"] == "warning"
    monkeypatch.setattr(machine, "NO_DISK", 1 << 60)
    assert examined()["disk"][0]["state"] == "problem"


def test_the_temporary_files_of_a_container_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for megabytes, state in ((255, "ok"), (100, "warning"), (20, "problem")):
        usage = SimpleNamespace(free=megabytes << 20)
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _place, usage=usage: usage)
        states = {finding.check: finding.state for finding in machine.home(Settings(home=tmp_path))}
        assert states == {"home": "ok", "disk": "problem", "temporary files": state}


@pytest.mark.parametrize(
    ("database", "files", "package", "state"),
    [
        ("postgresql://host/vezna", "/data/files", "no-torch", "ok"),
        ("postgresql://host/vezna", "/data/files", "torch", "problem"),
        ("postgresql://host/vezna", "", "no-torch", "problem"),
        ("", "/data/files", "no-torch", "problem"),
    ],
)
def test_a_home_that_is_not_writable_is_a_problem_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str, files: str, package: str, state: str
) -> None:
    monkeypatch.setattr(machine.os, "access", lambda _place, _mode: False)
    monkeypatch.setattr(machine, "WORKER_PACKAGES", (package,))
    home, *_temporary = machine.home(Settings(home=tmp_path, database_url=SecretStr(database), files_url=files))
    assert (home.check, home.state) == ("home", state)


def test_a_store_that_cannot_be_written_is_a_problem(
    installed: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VEZNA_FILES_URL", str(tmp_path / "file" / "store"))
    assert "store" in only_problem(examined(), "files")["message"]


def test_no_finding_has_the_password_of_the_files_store(installed: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEZNA_FILES_URL", "sftp://key:secret@127.0.0.1:9/bucket")
    problem = only_problem(examined(), "files")
    assert problem["message"].startswith("sftp://127.0.0.1:9/bucket: ") and "secret" not in str(problem)


def test_an_old_library_is_named(installed: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machine, "requires", lambda _name: ["rich>=9999", "no-such-library>=1", "torch>=9; extra == 'x'"]
    )
    message = only_problem(examined(), "libraries")["message"]
    assert message == f"rich {version('rich')} is not >=9999; no-such-library is missing"


def test_clocks_that_differ_are_a_warning(installed: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda _session: datetime.now(UTC) - timedelta(minutes=10))
    finding = services.skew(installed)
    assert (finding.state, finding.message) == ("warning", "The database's clock is 600 s behind this machine's")


def test_the_broker_of_vezna_up_is_found_while_it_runs(installed: Database, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "broker"
    folder.mkdir()
    (folder / "valkey.conf").write_text("bind 127.0.0.1\nport 4711\nrequirepass abc\n")
    settings = Settings(home=tmp_path / "home")
    assert doctor.of_running_stack(settings) == settings
    with (tmp_path / "home" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert doctor.of_running_stack(settings).broker == "redis://:abc@127.0.0.1:4711/0"


def test_the_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert vezna(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"vezna {version('vezna')}\n"


def test_each_gpu_of_a_worker_is_named_with_what_has_it_and_one_that_is_lost_is_a_warning(
    installed: Database, files: Files
) -> None:
    register_tiny(installed, files)
    card = {"device": "cuda", "device_name": "L4", "memory_bytes": 24 * GIB, "cores": 8}
    gpus = [Gpu(uuid=uuid, name="L4", memory_bytes=24 * GIB) for uuid in ("GPU-a", "GPU-b", "GPU-c")]
    with installed.transaction() as session:
        workers.sign_on(session, "w1", gpus=gpus, **card)
        numbers = {"seed": 0, "learning_rate": 1e-4, "base_model_id": 1, "dataset_id": 1}
        session.add(RunRow(id=7, arm="full", method_kind="full", metric="accuracy", spec_json={}, **numbers))
        session.flush()
        devices.take(session, ["GPU-b"], run_id=7, epoch=1, worker="w1")
        seen = [VisibleGpu(uuid="GPU-a"), VisibleGpu(uuid="GPU-b", free_bytes=2 * GIB)]
        lost = VisibleGpu(uuid="GPU-c", problem="The driver no longer lists it.")
        worker_queries.beat(session, "w1", clock.now(session), [*seen, lost])
    [worker, warning] = examined()["workers"]
    assert worker["state"] == "ok" and worker["message"].endswith("; L4: free; L4: run 7, 2.0 of 24.0 GiB free")
    assert warning == {"state": "warning", "message": "w1 lost L4 (GPU-c)", "remedy": "The driver no longer lists it"}
