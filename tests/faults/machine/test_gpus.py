"""Several GPUs and several workers on one host: each GPU trains one run at a time, whatever happens to its worker.

Workers, pool children and trainers are real processes. The GPUs are fakes that refuse a second process.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from app.broker.queue import TRAIN_QUEUE
from app.store.tables import DeviceRow
from tests.conftest import new_postgres_database
from tests.faults.installation import Installation, installation
from tests.support.fakes import gpus as fake_gpus
from tests.support.servers.running_stack import until
from tests.support.tutorials import blocks, shell

pytestmark = pytest.mark.slow

A, B, C = "GPU-0a", "GPU-0b", "GPU-0c"
LEASE_SECONDS = "15"
"""No attempt is lost while the machine is busy with something else."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpus")


@pytest.fixture(scope="module")
def _hosts(folder: Path, migrated_file: Path) -> Iterator[Installation]:
    (folder / "home").mkdir()
    (folder / "home" / "vezna.sqlite").write_bytes(migrated_file.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in fake_gpus.install(folder, A, B).items():
            patch.setenv(name, value)
        with installation(folder, DEVICE="cuda", LEASE_SECONDS=LEASE_SECONDS) as running:
            yield running


@pytest.fixture
def vezna(_hosts: Installation) -> Iterator[Installation]:
    """A worker with the GPUs A and B."""
    _hosts.begin()
    yield _hosts
    _hosts.require_rest()
    assert set(holders(_hosts).values()) == {None}


def holders(vezna: Installation) -> dict[str, int | None]:
    """The run that has each GPU."""
    with vezna.database.reading() as session:
        return {row.uuid: row.run_id for row in session.query(DeviceRow)}


def gpus_of(vezna: Installation, run_id: int) -> list[str]:
    """The GPUs that the trainers of a run saw, one attempt after the other."""
    return [line.removeprefix("trains on ") for line in vezna.messages(run_id) if line.startswith("trains on ")]


def busy(vezna: Installation, *run_ids: int) -> None:
    """Wait until runs train at the same time, each on a GPU of its own, which only it sees."""
    until(lambda: all(vezna.run(run_id).step for run_id in run_ids), 60)
    assert {vezna.run(run_id).status for run_id in run_ids} == {"running"}
    last = [gpus_of(vezna, run_id)[-1] for run_id in run_ids]
    assert sorted(last) == sorted(uuid for uuid, run_id in holders(vezna).items() if run_id in run_ids)
    assert len(set(last)) == len(run_ids)


def spares(vezna: Installation) -> list[str]:
    """The GPU of each trainer that waits for a run."""
    try:
        return sorted(spare.environ().get("CUDA_VISIBLE_DEVICES", "") for spare in vezna.spares())
    except psutil.Error:  # it has ended in the meantime
        return []


def workers(vezna: Installation) -> dict[str, list[str]]:
    """The GPUs of each worker that is there."""
    rows = vezna.api.get("/workers").json()
    return {row["name"]: [gpu["uuid"] for gpu in row["devices"]] for row in rows if row["state"] != "lost"}


@contextmanager
def another_worker(vezna: Installation, name: str = "", *options: str) -> Iterator[None]:
    """Another worker on the same host, with the same GPUs; without a name it chooses one."""
    before = set(workers(vezna))
    added = vezna.add_worker("another", *options, VEZNA_WORKER_NAME=name)
    try:
        until(lambda: len(set(workers(vezna)) - before) == 1, 60)
        yield
    finally:
        vezna.remove_worker(added)
    until(lambda: set(workers(vezna)) <= before, 60)


def test_a_worker_with_two_gpus_trains_two_runs_at_once_and_the_third_waits(vezna: Installation) -> None:
    first, second, third = (vezna.submit("trains") for _ in range(3))
    busy(vezna, first, second)
    [(_name, uuids)] = workers(vezna).items()
    assert uuids == [A, B]

    def gpus() -> list[tuple[bool, int | None]]:
        [row] = vezna.api.get("/workers").json()
        return [(gpu["run_id"] in (first, second), gpu["free_bytes"]) for gpu in row["devices"]]

    until(lambda: gpus() == [(True, fake_gpus.FREE_MIB * 2**20)] * 2, 30)
    assert vezna.run(third).status == "queued"
    until(lambda: spares(vezna) == [A, B], 30)
    vezna.finish(second)
    until(lambda: bool(vezna.run(third).step), 60)
    busy(vezna, first, third)
    for run_id in (first, third):
        vezna.finish(run_id)
    for run_id in (first, second, third):
        vezna.require_succeeded_once(run_id)


@pytest.mark.nightly
def test_the_commands_of_the_gpu_page_show_both_gpus_and_set_limits(
    vezna: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in vezna.child("worker").environment.items():
        monkeypatch.setenv(name, value)
    doctor, workers_of_api, limits = [
        re.sub(r"docker compose exec -T \S+ ", "", block)
        for block in blocks("gpu-server.md", "sh")
        if re.match("docker compose exec|curl.*/workers", block)
    ]
    assert shell(tmp_path, doctor, vezna.stack.url).count("NVIDIA L4 works") == 2
    [worker] = json.loads(shell(tmp_path, workers_of_api, vezna.stack.url))
    assert [gpu["uuid"] for gpu in worker["devices"]] == [A, B]
    said = shell(tmp_path, limits, vezna.stack.url)
    assert "member" in said and "40" in said


@pytest.mark.nightly
def test_two_workers_of_one_host_have_two_names_and_never_share_a_gpu(vezna: Installation) -> None:
    with another_worker(vezna):
        names = sorted(workers(vezna))
        assert names[1] == f"{names[0]}-2"
        assert list(workers(vezna).values()) == [[A, B], [A, B]]
        runs = [vezna.submit("trains") for _ in range(2)] + [vezna.submit("succeeds") for _ in range(6)]
        busy(vezna, *runs[:2])
        for run_id in runs[:2]:
            vezna.finish(run_id)
        for run_id in runs:  # a GPU that is shared fails its second run
            vezna.require_succeeded_once(run_id, seconds=120)
            assert len(gpus_of(vezna, run_id)) == 1


@pytest.mark.nightly
@pytest.mark.parametrize(("processes", "uuids"), [("1", [A]), ("auto", [A, B])])
def test_a_worker_has_no_more_gpus_than_processes(vezna: Installation, processes: str, uuids: list[str]) -> None:
    with another_worker(vezna, f"with-{processes}", "-c", processes):
        assert workers(vezna)[f"with-{processes}"] == uuids
        [pool] = [child for child in vezna.stack.children if child.name == "another"]
        until(lambda: len(psutil.Process(pool.process.pid).children()) == len(uuids), 30)


@pytest.mark.nightly
def test_the_gpus_of_a_killed_worker_are_free_once_its_leases_end(vezna: Installation) -> None:
    first, second = vezna.submit("trains"), vezna.submit("trains")
    busy(vezna, first, second)
    vezna.kill("worker")
    assert {holders(vezna)[uuid] for uuid in (A, B)} == {first, second}
    with another_worker(vezna, "other"):
        for run_id in (first, second):
            vezna.finish(run_id)
            run = vezna.require_succeeded_once(run_id, attempts=2, seconds=120)
            assert run.worker == "other"


@pytest.mark.nightly
def test_a_worker_that_is_told_to_stop_hands_both_runs_back_and_frees_their_gpus(vezna: Installation) -> None:
    first, second = vezna.submit("trains"), vezna.submit("trains")
    busy(vezna, first, second)
    worker = vezna.child("worker")
    worker.stop()
    worker.process.wait(60)
    assert set(holders(vezna).values()) == {None}
    for run_id in (first, second):
        run = vezna.run(run_id)
        assert (run.status, run.attempts) == ("queued", 0)
        vezna.finish(run_id)
    vezna.restart()
    for run_id in (first, second):
        vezna.require_succeeded_once(run_id, attempts=2)


@pytest.mark.nightly
def test_a_run_whose_gpu_disappears_goes_on_on_another(vezna: Installation, folder: Path) -> None:
    run_id = vezna.submit("trains")
    vezna.until_checkpoint(run_id)
    [lost] = gpus_of(vezna, run_id)
    fake_gpus.lose(lost, folder)
    try:
        vezna.require_succeeded_once(run_id, attempts=2)
        [left] = {A, B} - {lost}
        assert gpus_of(vezna, run_id) == [lost, left]
        assert any("The driver lost the GPU" in line for line in vezna.messages(run_id))

        def problems() -> list[str]:
            [row] = vezna.api.get("/workers").json()
            return [gpu["uuid"] for gpu in row["devices"] if gpu["problem"]]

        until(lambda: problems() == [lost], 30)
        later = [vezna.submit("succeeds") for _ in range(3)]
        for number in later:
            vezna.require_succeeded_once(number)
            assert gpus_of(vezna, number) == [left]
    finally:
        (folder / "gpus" / f"{lost}.lost").rename(folder / "gpus" / lost)


@pytest.mark.nightly
def test_a_worker_that_has_lost_all_gpus_leaves_the_rings_to_others(
    tmp_path: Path, migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "vezna.sqlite").write_bytes(migrated_file.read_bytes())
    for name, value in fake_gpus.install(tmp_path, A).items():
        monkeypatch.setenv(name, value)
    with installation(tmp_path, DEVICE="cuda", LEASE_SECONDS=LEASE_SECONDS) as vezna:
        vezna.begin()
        fake_gpus.lose(A, tmp_path)
        until(lambda: "all GPUs are lost" in vezna.log("worker") and "Canceling queue" in vezna.log("worker"), 120)
        run_id = vezna.submit("succeeds")
        with redis.Redis.from_url(vezna.settings.broker) as broker:
            queue = f"{vezna.settings.broker_prefix}{TRAIN_QUEUE}"
            until(lambda: broker.llen(queue) == 1, 30)
        assert "Waiting for a GPU" not in " ".join(vezna.messages(run_id))
        (tmp_path / "gpus" / f"{A}.lost").rename(tmp_path / "gpus" / A)
        with another_worker(vezna, "other"):
            assert vezna.require_succeeded_once(run_id).worker == "other"


@pytest.mark.nightly
def test_on_postgresql_two_workers_race_for_three_gpus(
    tmp_path: Path, postgres: str, migrated_template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fake_gpus.install(tmp_path, A, B, C).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "home").mkdir()
    url = new_postgres_database(postgres, migrated_template)
    with installation(tmp_path, url, DEVICE="cuda", LEASE_SECONDS=LEASE_SECONDS) as vezna:
        vezna.begin()
        with another_worker(vezna):
            runs = [vezna.submit("trains") for _ in range(9)]
            until(lambda: None not in holders(vezna).values(), 60)
            busy(vezna, *(run_id for run_id in holders(vezna).values() if run_id))
            for run_id in runs:
                vezna.finish(run_id)
            for run_id in runs:
                vezna.require_succeeded_once(run_id, seconds=120)
            assert set(holders(vezna).values()) == {None}
