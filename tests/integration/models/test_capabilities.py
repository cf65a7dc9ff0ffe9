"""A method that not every worker can carry out: refused where none can, and left to one that can."""

from collections.abc import Sequence
from datetime import timedelta
from importlib.metadata import PackageNotFoundError

import pytest
from sqlalchemy import update

from app.domain.errors import Invalid
from app.domain.methods import SPECS, FullSpec, LeanFullSpec, LoraSpec, QloraSpec
from app.domain.runs.capabilities import CAPABILITIES, Capability
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.services.models import compatibility
from app.services.runs import attempts, runs
from app.services.runs.submission import plan_arm
from app.services.studies import studies
from app.services.workers import workers
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import queries as run_queries
from app.store.tables import WorkerRow, now
from tests.support.fakes.fakes import SilentBell
from worker.machine import device

QLORA = RunSpec(base_model="tiny", dataset="small", method=QloraSpec(r=2))
LORA = QLORA.model_copy(update={"method": LoraSpec(r=2)})


def _sign_on(db: Database, name: str, capabilities: Sequence[Capability] = ()) -> None:
    with db.transaction() as session:
        workers.sign_on(
            session, name, device="cpu", device_name="CPU", memory_bytes=1, cores=2, capabilities=capabilities
        )


def _submit(db: Database, bell: SilentBell, spec: RunSpec) -> int:
    with db.transaction() as session:
        return runs.submit(session, bell, spec).id


def _claims(db: Database, run_id: int, worker: str) -> bool:
    with db.transaction() as session:
        return attempts.claim(session, run_id, worker, 45) is not None


def test_a_run_that_no_worker_can_execute_is_refused_with_the_reason_and_the_remedy(
    registered: Database, bell: SilentBell
) -> None:
    _sign_on(registered, "small")
    _sign_on(registered, "large")
    with pytest.raises(Invalid) as refused:
        _submit(registered, bell, QLORA)
    error = refused.value.fields[0]
    assert error.path == "method.kind"
    assert (
        error.message
        == "None of the workers (large, small) has bitsandbytes, which QLoRA needs for weights in four bits"
    )
    assert 'pip install "vezna[qlora]"' in error.remedy
    assert _submit(registered, bell, LORA)


def test_of_a_study_the_arm_is_named(registered: Database) -> None:
    _sign_on(registered, "small")
    spec = StudySpec(
        name="four bits",
        base_model="tiny",
        dataset="small",
        arms=[ArmSpec(method=FullSpec()), ArmSpec(method=QloraSpec(r=2))],
    )
    with registered.reading() as session, pytest.raises(Invalid) as refused:
        compatibility.check(session, spec)
    assert [error.path for error in refused.value.fields] == ["arms.1.method.kind"]


def test_an_arm_is_added_beside_one_that_no_worker_could_carry_out_any_more(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    _sign_on(registered, "able", ["qlora"])
    spec = StudySpec(name="four bits", base_model="tiny", dataset="small", arms=[ArmSpec(method=QloraSpec(r=2))])
    with registered.transaction() as session:
        study = studies.submit(session, bell, spec).id
    _away(registered, "able", workers.REMEMBER + timedelta(hours=1))
    _sign_on(registered, "small")
    with registered.reading() as session:
        plan = plan_arm(registered, bell, settings, session, study, ArmSpec(method=FullSpec())).plan
        assert [arm.title for arm in plan.arms] == ["full"]
    with registered.transaction() as session:
        studies.add_arm(session, bell, study, ArmSpec(method=FullSpec()))
    with registered.transaction() as session, pytest.raises(Invalid) as refused:
        studies.add_arm(session, bell, study, ArmSpec(method=QloraSpec(r=4)))
    assert [error.path for error in refused.value.fields] == ["arms.2.method.kind"]


def test_before_any_worker_has_reported_a_run_is_accepted(registered: Database, bell: SilentBell) -> None:
    assert _submit(registered, bell, QLORA)


def _away(db: Database, name: str, age: timedelta) -> None:
    with db.transaction() as session:
        session.execute(update(WorkerRow).where(WorkerRow.name == name).values(heartbeat_at=now() - age))


def test_the_workers_that_are_there_decide_and_one_that_is_started_anew_is_there(
    registered: Database, bell: SilentBell
) -> None:
    _sign_on(registered, "small")
    _sign_on(registered, "able", ["qlora"])
    _away(registered, "able", timedelta(minutes=1))
    assert _submit(registered, bell, QLORA)
    _away(registered, "able", timedelta(hours=1))
    with pytest.raises(Invalid, match=r"None of the workers \(small\) has .*; able has it, but is offline"):
        _submit(registered, bell, QLORA)
    _away(registered, "able", workers.REMEMBER + timedelta(hours=1))
    with pytest.raises(Invalid, match=r"None of the workers \(small\) has [^;]*$"):
        _submit(registered, bell, QLORA)


def test_where_no_worker_is_there_one_of_the_last_day_may_come_back(registered: Database, bell: SilentBell) -> None:
    _sign_on(registered, "able", ["qlora"])
    _sign_on(registered, "small")
    for name in ("able", "small"):
        _away(registered, name, timedelta(hours=1))
    assert _submit(registered, bell, QLORA)
    _away(registered, "able", workers.REMEMBER + timedelta(hours=1))
    with pytest.raises(Invalid, match=r"None of the workers \(small\)"):
        _submit(registered, bell, QLORA)


def test_a_run_that_waits_for_another_worker_says_so_once(registered: Database, bell: SilentBell) -> None:
    run_id = _submit(registered, bell, QLORA)
    for name in ("small", "large"):
        _sign_on(registered, name)
        for _ in range(2):  # the sweep rings again and again
            assert not _claims(registered, run_id, name)
    with registered.reading() as session:
        shown = [event.message for event in runs.view(session, run_id).events]
    assert shown == [
        "queued",
        "Waiting for a worker that has bitsandbytes, which QLoRA needs for weights in four bits. Install it on a "
        'worker with pip install "vezna[qlora]" and restart the worker, or choose LoRA.',
    ]
    with registered.transaction() as session:
        runs.cancel(session, bell, run_id)
    _sign_on(registered, "late")
    assert not _claims(registered, run_id, "late")
    with registered.reading() as session:
        assert len(runs.view(session, run_id).events) == 3  # nothing more waits


def test_a_worker_leaves_what_it_cannot_do_to_one_that_can(registered: Database, bell: SilentBell) -> None:
    _sign_on(registered, "small")
    _sign_on(registered, "able", ["qlora"])
    run_id = _submit(registered, bell, QLORA)
    assert not _claims(registered, run_id, "small")
    with registered.reading() as session:
        assert run_queries.get(session, run_id).status == "queued"
    assert _claims(registered, run_id, "able")
    assert _claims(registered, _submit(registered, bell, LORA), "small")


def test_what_a_worker_can_do_is_shown_and_is_that_of_its_last_start(registered: Database, settings: Settings) -> None:
    _sign_on(registered, "w1", ["qlora"])
    with registered.reading() as session:
        assert workers.live(session, settings)[0].capabilities == ["qlora"]
    _sign_on(registered, "w1")
    with registered.reading() as session:
        assert workers.live(session, settings)[0].capabilities == []


BOTH = ["qlora", "adamw-8bit"]


@pytest.mark.parametrize(
    ("installed", "found"), [("0.48.0", BOTH), ("0.50.2", BOTH), ("1.0.0.dev0", BOTH), ("0.47.0", []), ("unknown", [])]
)
def test_four_bits_need_a_bitsandbytes_that_is_right_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, installed: str, found: list[str]
) -> None:
    monkeypatch.setattr(device, "version", lambda _: installed)
    monkeypatch.setenv("CXX", "absent")
    assert device.capabilities() == found


def test_without_bitsandbytes_a_machine_has_no_four_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(device, "version", absent)
    monkeypatch.setenv("CXX", "absent")
    assert device.capabilities() == []


def test_blocks_are_compiled_where_there_is_the_compiler_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"g++": "/usr/bin/g++", "gcc": "/usr/bin/gcc"}
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.setattr(device, "version", lambda _: "0.1")
    monkeypatch.setattr(device.shutil, "which", found.get)
    monkeypatch.setattr(device, "find_spec", lambda _: None)
    assert device.capabilities("cpu") == ["compile"]
    assert device.capabilities("cuda") == ["gpu"], "without triton"
    monkeypatch.setattr(device, "find_spec", lambda _: "triton")
    assert device.capabilities("cuda") == ["gpu", "compile"]
    found.clear()
    assert device.capabilities("cpu") == []
    assert device.capabilities("cuda") == ["gpu"]


def test_a_run_with_compiled_blocks_goes_to_a_worker_with_a_compiler(registered: Database, bell: SilentBell) -> None:
    compiled = LORA.model_copy(update={"training": LORA.training.model_copy(update={"compile_blocks": True})})
    _sign_on(registered, "plain")
    with pytest.raises(Invalid) as refused:
        _submit(registered, bell, compiled)
    assert [error.path for error in refused.value.fields] == ["training.compile_blocks"]
    assert "g++" in refused.value.fields[0].message and "compile_blocks to false" in refused.value.fields[0].remedy
    _sign_on(registered, "compiling", ["compile"])
    run = _submit(registered, bell, compiled)
    assert not _claims(registered, run, "plain")
    assert _claims(registered, run, "compiling")


def test_whatever_is_needed_has_a_reason_and_a_remedy() -> None:
    of_training = TrainingArguments(compile_blocks=True).needed
    of_training |= LeanFullSpec(offload_activations=True).needed
    assert {need for spec in SPECS.values() for need in spec.needs} | of_training == set(CAPABILITIES)
