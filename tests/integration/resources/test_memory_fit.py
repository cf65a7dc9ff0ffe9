"""Will it fit: arms against workers and cards, with ways out. On SQLite and on PostgreSQL."""

from collections.abc import Callable
from math import ceil
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.errors import Invalid, NotFound
from app.domain.methods import FullSpec, LoraSpec, QloraSpec
from app.domain.resources.calibration import ASSUMED
from app.domain.resources.devices import GIB, GPU_MODELS
from app.domain.resources.estimate import EstimateRequest, EstimateSpec, MapRequest, ResourceEstimate
from app.domain.resources.memory_fit import FitReport, RunFit
from app.domain.resources.memory_map import MapReport, MapSpec
from app.domain.resources.speed import DeviceRates
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.studies.arms import ArmSpec
from app.domain.studies.plan import StudyPlan
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import SearchSpace
from app.services.models.compatibility import Compatible
from app.services.resources import calibration, estimates, memory_fit, memory_maps
from app.services.runs import attempts, runs, submission
from app.services.studies import studies
from app.services.studies.plan import PlannedStudy, planned
from app.settings import Settings
from app.store.database.session import Database
from app.store.resources import past_estimates
from app.store.runs import queries as run_queries
from app.store.tables import EstimateRow, StudyRow, WorkerRow
from tests.integration.resources.test_estimates import sign_on
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.estimates import MIB, estimate, memory_map, work
from tests.support.rows.results import result

RUN = RunSpec(base_model="tiny", dataset="small", method=FullSpec())
STUDY = StudySpec(
    name="Small study",
    base_model="tiny",
    dataset="small",
    arms=[ArmSpec(method=FullSpec()), ArmSpec(method=LoraSpec(r=2), name="small LoRA")],
    seeds=[0, 1, 2],
)
Peak = Callable[[EstimateRequest], int]
Estimated = Callable[[EstimateRequest], ResourceEstimate]


def peak_of(request: EstimateRequest) -> int:
    """10 GiB for full fine-tuning; half for LoRA, three quarters with checkpointing, more in bfloat16."""
    size = 10 * GIB
    size //= 2 if isinstance(request.method, LoraSpec) else 1
    size = size * 3 // 4 if request.training.gradient_checkpointing else size
    return size * 11 // 10 if request.bf16 and isinstance(request.method, FullSpec) else size


@pytest.fixture
def ask(registered: Database, bell: SilentBell, settings: Settings) -> Callable[[Any], FitReport]:
    """Ask until everything is settled; whatever is asked for is answered at once."""

    def settled(wanted: Any) -> FitReport:
        while True:
            with registered.transaction() as session:
                report = memory_fit.checked_report(session, bell, settings, wanted)
            if report.settled:
                return report
            answer(registered, bell)

    return settled


def answer(db: Database, bell: SilentBell, peak: Peak | Estimated = peak_of) -> None:
    """Work out everything that has been asked for."""
    with db.transaction() as session:
        waiting = list(
            session.scalars(
                select(EstimateRow.id).where(EstimateRow.status == "queued", EstimateRow.kind != "baseline")
            )
        )
    for estimate_id in waiting:
        with db.transaction() as session:
            row = estimates.begin(session, estimate_id)
            assert row is not None
            request = row.request
            if isinstance(request, MapRequest):
                estimates.ready(session, bell, row, memory_map(request))
            else:
                of_request = peak(request)
                estimates.ready(session, bell, row, estimate(of_request) if isinstance(of_request, int) else of_request)


def submit_study(db: Database, bell: SilentBell, settings: Settings) -> int:
    """Submit STUDY unless it fits no worker."""

    def accept(session: Session, compatible: Compatible) -> int:
        return studies.submit(session, bell, STUDY, compatible).id

    return submission.submit(db, bell, settings, STUDY, accept, insist=False)


def test_an_estimate_for_several_devices_is_of_each_and_says_so(
    registered: Database, ask: Callable[[Any], FitReport]
) -> None:
    sign_on(registered, "small", memory_bytes=8 * GIB)
    several = STUDY.arms[0].model_copy(update={"devices": 2, "gradient_accumulation_steps": 2})
    report = ask(STUDY.model_copy(update={"arms": [several, *STUDY.arms[1:]]}))
    on_two, on_one = (arm.workers[0] for arm in report.arms)
    says = "Of each of the run's 2 devices. It has not been compared with GPUs yet."
    assert (on_two.fit, on_two.message) == ("does_not_fit", says)
    assert "lora" in {saving.name for saving in on_two.memory_savings}
    assert not {"lean", "adamw-8bit"} & {saving.name for saving in on_two.memory_savings}  # on one device only
    assert (on_one.fit, on_one.message) == ("fits", "")


def test_every_arm_is_held_against_live_workers_first_and_then_the_cards(
    registered: Database, ask: Callable[[Any], FitReport]
) -> None:
    sign_on(registered, "small", memory_bytes=8 * GIB)
    sign_on(registered, "large", memory_bytes=64 * GIB)
    report = ask(STUDY)
    assert [arm.name for arm in report.arms] == ["full", "small LoRA"]
    full, lora = report.arms
    names = [found.device.name for found in full.devices]
    assert names == ["large", "small", *(gpu.name for gpu in GPU_MODELS)]
    assert [found.fit for found in full.workers] == ["fits", "does_not_fit"]
    assert [found.fit for found in lora.workers] == ["fits", "fits"]
    assert {found.device.name: found.fit for found in full.gpu_models}["RTX 3060"] == "does_not_fit"
    assert {found.device.name: found.fit for found in full.gpu_models}["H200"] == "fits"
    need = full.workers[0].peak
    assert need is not None and (need.value, need.runs) == (10 * GIB + ASSUMED["cpu", False][0], 0)
    assert not full.fits_nowhere


def test_one_estimate_serves_every_device_of_a_kind_and_every_seed(
    registered: Database, bell: SilentBell, ask: Callable[[Any], FitReport]
) -> None:
    sign_on(registered, "one", memory_bytes=64 * GIB)
    sign_on(registered, "two", memory_bytes=128 * GIB)
    sign_on(registered, "modern", memory_bytes=64 * GIB, bf16=True)
    report = ask(STUDY)
    full = report.arms[0]
    assert {(need.kind, need.bf16) for need in full.estimates} == {
        ("cpu", False), ("cpu", True), ("cuda", True), ("cuda", False),  # an old card has no bfloat16
    }  # fmt: skip
    assert {found.estimate_id for found in full.devices} == {need.estimate_id for need in full.estimates}
    with registered.reading() as session:
        assert len(session.scalars(select(EstimateRow)).all()) == 8
    said = RUN.model_copy(update={"training": TrainingArguments(bf16=False)})
    assert {(need.kind, need.bf16) for need in ask(said).arms[0].estimates} == {("cpu", False), ("cuda", False)}


def test_a_look_asks_for_nothing(registered: Database, settings: Settings, bell: SilentBell) -> None:
    sign_on(registered)
    with registered.reading() as session:
        report = memory_fit.checked_report(session, None, settings, RUN)
        assert session.scalars(select(EstimateRow)).all() == []
    assert report.unrequested == report.pending == 3 and not report.settled
    assert bell.rung == []
    with registered.transaction() as session:
        asked = memory_fit.checked_report(session, bell, settings, RUN)
    assert (asked.unrequested, asked.pending) == (0, 3)


def test_on_a_worker_that_is_too_small_savings_are_ranked_by_size(
    registered: Database, ask: Callable[[Any], FitReport]
) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    [arm] = ask(RUN).arms
    [found] = arm.workers
    assert arm.fits_nowhere
    assert [(way.name, way.saved_bytes, way.fit) for way in found.memory_savings] == [
        ("lora", 5 * GIB, "fits"),
        ("checkpointing", 10 * GIB // 4, "does_not_fit"),
    ]  # bf16 takes more, and a smaller batch or length saves nothing here
    assert found.memory_savings[0].fields == {"method": {"kind": "lora"}}
    assert all(gpu.memory_savings == () for gpu in arm.gpu_models)


def test_a_worker_without_a_required_capability_does_not_count(
    registered: Database, ask: Callable[[Any], FitReport]
) -> None:
    sign_on(registered, "plain", memory_bytes=1 * GIB)
    [arm] = ask(RUN.model_copy(update={"method": QloraSpec(target_modules=["query"])})).arms
    [found] = arm.workers
    assert (found.capable, found.state, found.fit) == (False, "failed", "unknown")
    assert "bitsandbytes" in found.message
    assert not arm.fits_nowhere


def test_a_spec_that_fits_no_worker_is_refused_with_the_best_saving_and_an_unknown_fit_passes(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    submit_study(registered, bell, settings)
    with registered.transaction() as session:
        memory_fit.checked_report(session, bell, settings, STUDY)
    answer(registered, bell)
    with pytest.raises(Invalid) as early:
        submit_study(registered, bell, settings)
    [error] = early.value.fields
    assert error.path == "arms.0.method"
    assert "full needs an estimated 10.0 GiB, more than any live worker has: w1 has 8.0 GiB" in error.message
    assert error.remedy == "Set insist=true to queue it anyway"
    answer(registered, bell)
    with pytest.raises(Invalid) as late:
        submit_study(registered, bell, settings)
    assert late.value.fields[0].remedy.startswith(
        "Change this: LoRA instead of full fine-tuning, which saves 5.0 GiB; or set insist"
    )
    sign_on(registered, "larger", memory_bytes=64 * GIB)
    submit_study(registered, bell, settings)


def test_a_pasted_config_is_estimated_without_a_tokenizer_and_with_the_datasets_labels(
    registered: Database, ask: Callable[[Any], FitReport]
) -> None:
    config = {"model_type": "llama", "hidden_size": 64}
    report = ask(EstimateSpec(config=config, dataset="small", methods=[FullSpec(), LoraSpec()]))
    assert [arm.name for arm in report.arms] == ["full", "LoRA r=8"]
    with registered.reading() as session:
        request = session.scalars(select(EstimateRow)).first().request  # type: ignore[union-attr]
    assert isinstance(request, EstimateRequest)
    assert (request.config, request.location, request.dataset_file, request.labels) == (config, "", "", 2)


@pytest.mark.parametrize(
    ("asked", "path", "says"),
    [
        ({"base_model": "gone"}, "base_model", "There is no base model 'gone'"),
        ({"base_model": "tiny", "dataset": "gone"}, "dataset", "There is no dataset 'gone'"),
        ({"base_model": "tiny", "training": {"max_length": 513}}, "training.max_length", "has 512 positions"),
        ({"base_model": "tiny", "task": "causal-lm"}, "task", "was not inspected"),
        (
            {"base_model": "tiny", "methods": [{"kind": "full"}, {"kind": "lora", "target_modules": ["q"]}]},
            "methods.1.target_modules",
            "no linear module 'q'",
        ),
    ],
)
def test_a_method_that_is_incompatible_with_the_model_is_refused_with_the_field(
    ask: Callable[[Any], FitReport], asked: dict[str, Any], path: str, says: str
) -> None:
    with pytest.raises(Invalid) as refused:
        ask(EstimateSpec.model_validate({"methods": [{"kind": "full"}]} | asked))
    [error] = refused.value.fields
    assert error.path == path and says in error.message


RATES = {"matmul_flops": 1e11, "matmul_rates": {64: 3e10}, "call_rate": 2e4, "byte_rate": 1e10}


def finished(
    db: Database, bell: SilentBell, peak: int, seconds: float, spec: RunSpec = RUN, *, waiting: float | None = None
) -> int:
    """A succeeded run that needed so many bytes and seconds; `waiting`: of its thread, and its device is measured."""
    with db.transaction() as session:
        run_id = runs.submit(session, bell, spec).id
    answer(db, bell, lambda _: 100 * MIB)
    found = result()
    memory = found.memory.model_copy(update={"peak_bytes": peak})
    clocks = found.clocks.model_copy(
        update={"forward": seconds, "backward": 0.0, "optimizer": 0.0, "waiting": waiting or 0.0}
    )
    rates = {} if waiting is None else RATES | {"threads": 1}
    environment = found.environment.model_copy(update=rates)
    with db.transaction() as session:
        mine = attempts.claim(session, run_id, "w1", 45)
        assert mine is not None
        attempts.finish(
            session,
            bell,
            mine,
            found.model_copy(update={"memory": memory, "clocks": clocks, "environment": environment}),
            {},
        )
    return run_id


def fit_of(db: Database, bell: SilentBell, settings: Settings, run_id: int) -> RunFit:
    with db.transaction() as session:
        return memory_fit.run_fit(session, bell, settings, run_queries.get(session, run_id))


def test_past_runs_calibrate_their_device_and_each_is_compared_with_the_others(
    registered: Database, bell: SilentBell, settings: Settings, ask: Callable[[Any], FitReport]
) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    ids = [finished(registered, bell, (100 + extra) * MIB, 10.0) for extra in (50, 50, 60)]
    [arm] = ask(RUN).arms
    [found] = arm.workers
    assert found.peak is not None and found.train_seconds is not None
    assert (found.peak.value, found.peak.runs) == (150 * MIB, 3)
    assert found.train_seconds.value == pytest.approx(10.0, rel=0.05)
    assert arm.gpu_models[0].train_seconds is None  # nobody has measured it
    last = fit_of(registered, bell, settings, ids[-1])
    assert last.peak is not None and last.peak.runs == 2
    assert last.bytes_error == pytest.approx(-10 / 160)
    assert last.seconds_error == pytest.approx(0, abs=0.05)
    assert (last.measured_bytes, last.fit) == (160 * MIB, "fits")
    with registered.reading() as session:
        [told] = calibration.accuracy(session)
    assert (told.device_name, told.precision, told.method, told.peak.runs) == ("CPU", "fp32", "full", 3)
    assert told.task == RUN.task
    assert told.peak.worst == pytest.approx(-10 / 160)
    assert told.train is not None and told.train.mean == pytest.approx(0, abs=0.05)


def test_a_run_that_waited_for_a_processor_is_not_taken_for_the_speed_of_its_device(
    registered: Database, bell: SilentBell, settings: Settings, ask: Callable[[Any], FitReport]
) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    for seconds, waiting in ((10.0, 0.0), (40.0, 30.0), (35.0, 25.0)):
        finished(registered, bell, 150 * MIB, seconds, waiting=waiting)
    with registered.reading() as session:
        past = past_estimates.on_device(session, "CPU", "fp32")
    assert [run.trained.own_seconds for run in past if run.trained] == pytest.approx([10.0, 10.0, 10.0])
    assert past[0].rates == DeviceRates(1e11, {64: 3e10}, 2e4, 1e10)
    [found] = ask(RUN).arms[0].workers
    assert found.train_seconds is not None and found.train_seconds.value == pytest.approx(10.0, rel=0.15)


def test_what_was_estimated_before_a_run_stays_when_later_runs_teach_more(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    finished(registered, bell, 150 * MIB, 10.0)
    second = finished(registered, bell, 160 * MIB, 12.0)
    before = fit_of(registered, bell, settings, second)
    assert before.peak is not None and before.train_seconds is not None and before.shown is not None
    assert (before.peak.value, before.peak.runs, before.shown.moment) == (150 * MIB, 1, "submission")
    assert before.train_seconds.low < before.train_seconds.value == pytest.approx(10.0, rel=0.05)
    for _ in range(3):
        finished(registered, bell, 190 * MIB, 30.0)
    with registered.transaction() as session:
        session.get_one(WorkerRow, "w1").matmul_flops = 1e12
    after = fit_of(registered, bell, settings, second)
    assert after == before
    assert after.bytes_error == pytest.approx(-10 / 160)


def test_an_estimate_that_came_after_the_run_says_so(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    with registered.transaction() as session:
        run_id = runs.submit(session, bell, RUN).id
        assert attempts.claim(session, run_id, "w1", 45)
    assert fit_of(registered, bell, settings, run_id).peak is None
    answer(registered, bell, lambda _: 100 * MIB)
    found = fit_of(registered, bell, settings, run_id)
    assert found.shown is not None and found.peak is not None
    assert (found.shown.moment, found.shown.late, len(found.stored)) == ("running", True, 1)


def test_a_run_that_another_device_takes_keeps_both_estimates(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    with registered.transaction() as session:
        run_id = runs.submit(session, bell, RUN).id
    answer(registered, bell, lambda _: 100 * MIB)
    with registered.transaction() as session:
        session.get_one(WorkerRow, "w1").device_name = "another CPU"
        assert attempts.claim(session, run_id, "w1", 45)
        estimates.for_claimed(session, bell, run_id, session.get(WorkerRow, "w1"))
    found = fit_of(registered, bell, settings, run_id)
    assert [stored.moment for stored in found.stored] == ["submission", "claim"]
    assert found.device is not None and found.device.device_name == "another CPU"


def test_a_run_without_a_stored_estimate_shows_none(registered: Database, bell: SilentBell, settings: Settings) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    run_id = finished(registered, bell, 150 * MIB, 10.0)
    with registered.transaction() as session:
        run_queries.get(session, run_id).stored_estimates_json = None
    found = fit_of(registered, bell, settings, run_id)
    assert (found.peak, found.train_seconds, found.bytes_error, found.fit) == (None, None, None, "unknown")
    assert found.measured_bytes == 150 * MIB


@pytest.mark.parametrize(
    ("peak_in", "counts"), [("train", True), ("load", True), ("evaluate", False), ("baseline", False)]
)
def test_a_trial_calibrates_like_a_run_unless_the_estimated_peak_is_in_the_test(
    registered: Database,
    bell: SilentBell,
    settings: Settings,
    ask: Callable[[Any], FitReport],
    peak_in: str,
    counts: bool,
) -> None:
    sign_on(registered, memory_bytes=8 * GIB)
    trials = [finished(registered, bell, 3 * GIB + extra * MIB, 10.0) for extra in (50, 60, 50)]
    predicted = estimate(2 * GIB).model_copy(update={"phases": {"train": 2 * GIB, "load": 1, peak_in: 3 * GIB}})
    with registered.transaction() as session:
        for run in (run_queries.get(session, run_id) for run_id in trials):
            run.trial_round, run.estimated_bytes = 0, predicted.peak_bytes
            session.get_one(EstimateRow, run.estimate_id).result_json = predicted.model_dump(mode="json")
    [found] = ask(RUN).arms[0].workers
    assert found.peak is not None
    assert found.peak.runs == (3 if counts else 0)
    assert found.peak.value == 3 * GIB + (50 * MIB if counts else ASSUMED["cpu", False][0])
    assert (found.train_seconds is not None) == counts
    with registered.reading() as session:
        assert [told.peak.runs for told in calibration.accuracy(session)] == ([3] if counts else [])


def test_a_run_that_was_not_predicted_has_nothing_to_be_held_against(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    with registered.transaction() as session:
        run = runs.submit(session, bell, RUN)
    found = fit_of(registered, bell, settings, run.id)
    assert (found.arm_estimate, found.peak, found.fit, found.memory_savings) == (None, None, "unknown", ())


def map_of(db: Database, bell: SilentBell, settings: Settings, **asked: Any) -> MapReport:
    with db.transaction() as session:
        return memory_maps.map_report(session, bell, settings, MapSpec(base_model="tiny", **asked))


def test_a_map_has_fits_and_boundaries(registered: Database, bell: SilentBell, settings: Settings) -> None:
    sign_on(registered, memory_bytes=1638 * MIB)
    asked = {"lengths": (64, 8), "batch_sizes": (1, 8, 64)}
    first = map_of(registered, bell, settings, **asked)
    assert (first.state, first.cells, first.device.name) == ("working", (), "w1")
    answer(registered, bell)
    found = map_of(registered, bell, settings, **asked)
    assert (found.state, found.lengths, len(found.cells)) == ("ready", (8, 64), 12)
    assert {(b.method, b.length): b.rows for b in found.boundaries} == {(0, 8): 8, (0, 64): 1, (1, 8): 64, (1, 64): 8}
    other = map_of(registered, bell, settings, device="H200", **asked)
    assert (other.device.kind, other.state) == ("cuda", "working")


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"device": "nobody"}, "device"),
        ({"methods": ("lorra",)}, "methods"),
        ({"methods": ("prefix",)}, "methods"),
        ({"lengths": (1024,)}, "lengths"),
        ({"task": "causal-lm"}, "task"),
    ],
)
def test_an_impossible_map_is_refused(
    registered: Database, bell: SilentBell, settings: Settings, asked: dict[str, Any], path: str
) -> None:
    with pytest.raises(Invalid) as refused:
        map_of(registered, bell, settings, **asked)
    assert refused.value.fields[0].path == path


def test_a_map_of_an_unknown_model_is_not_found(registered: Database, bell: SilentBell, settings: Settings) -> None:
    with pytest.raises(NotFound), registered.transaction() as session:
        memory_maps.map_report(session, bell, settings, MapSpec(base_model="gone"))


@pytest.mark.slow
def test_a_budget_of_seconds_that_fits_no_two_trials_by_the_estimate_queues_nothing(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    def submitted(seconds: float, *, insist: bool = False) -> int:
        tuning = {"kind": "random", "unit": "seconds", "budget": seconds}
        spec = StudySpec.model_validate(STUDY.model_dump() | {"tuning": tuning})

        def accept(session: Session, compatible: Compatible) -> int:
            return studies.submit(session, bell, spec, compatible).id

        return submission.submit(registered, bell, settings, spec, accept, insist=insist)

    assert submitted(1e-3), "nothing is known of a trial's time"
    sign_on(registered, memory_bytes=64 * GIB)
    with registered.transaction() as session:
        session.get_one(WorkerRow, "w1").matmul_flops = 1e11
        memory_fit.checked_report(session, bell, settings, STUDY)
    answer(registered, bell)
    with registered.reading() as session:
        report = memory_fit.checked_report(session, None, settings, STUDY)
        before = len(session.scalars(select(StudyRow)).all())
    least = 2 * max(report.least_train_seconds.values())
    with pytest.raises(Invalid) as error:
        submitted(0.9 * least)
    [field] = error.value.fields
    assert field.path == "tuning.budget" and f"at least {ceil(least)} s" in field.message and field.remedy
    with registered.reading() as session:
        assert len(session.scalars(select(StudyRow)).all()) == before
    assert submitted(0.9 * least, insist=True)
    assert submitted(1.1 * least)


def test_a_plan_has_the_reference_of_dpo_once(registered: Database, bell: SilentBell, settings: Settings) -> None:
    """Not for each arm and seed: the worker's cache has it for the other runs."""
    sign_on(registered, memory_bytes=64 * GIB)
    with registered.transaction() as session:
        session.get_one(WorkerRow, "w1").matmul_flops = 1e11

    def plan() -> StudyPlan:
        with registered.reading() as session:
            return planned(registered, bell, settings, session, STUDY).plan

    plan()
    answer(registered, bell, lambda _request: estimate(GIB).model_copy(update={"reference_work": work(10**11)}))
    found = plan()
    times = [arm.train_seconds for arm in found.arms if arm.train_seconds]
    assert found.reference_seconds == pytest.approx(times[0] / 10) and len(times) == len(STUDY.arms)
    assert found.train_seconds == pytest.approx(len(STUDY.seeds) * sum(times) + found.reference_seconds)


def test_a_budget_of_seconds_is_checked_with_the_smallest_rank_of_a_search_on_capable_workers(
    registered: Database, bell: SilentBell, settings: Settings
) -> None:
    arms = [ArmSpec(method=LoraSpec(r=32), name="wide", search=SearchSpace.model_validate({"r": [4, 32]}))]
    tuning = {"kind": "random", "unit": "seconds", "budget": 1e4}
    spec = StudySpec.model_validate(STUDY.model_dump() | {"arms": [*STUDY.arms, *arms], "tuning": tuning})
    sign_on(registered, memory_bytes=64 * GIB)
    with registered.transaction() as session:
        session.get_one(WorkerRow, "w1").matmul_flops = 1e11

    def by_rank(request: EstimateRequest) -> ResourceEstimate:
        rank = request.method.r if isinstance(request.method, LoraSpec) else 1
        return estimate(GIB).model_copy(update={"train_work": work(rank * 10**12)})

    def plan(spec: StudySpec) -> PlannedStudy:
        with registered.reading() as session:
            return planned(registered, bell, settings, session, spec)

    plan(spec)
    answer(registered, bell, by_rank)
    known = plan(spec)
    least, most = (report.least_train_seconds["wide"] for report in (known.trials, known.memory))
    assert most == pytest.approx(8 * least)
    small = spec.model_copy(update={"tuning": spec.tuning.model_copy(update={"budget": 2.2 * least})})
    assert plan(small).trials.least_train_seconds["wide"] == least, "two trials of the smallest rank fit"
    with pytest.raises(Invalid, match="wide"):
        plan(spec.model_copy(update={"tuning": spec.tuning.model_copy(update={"budget": 1.8 * least})}))
    [arm] = [arm for arm in known.trials.arms if arm.name == "wide"]
    incapable = arm.model_copy(
        update={"devices": tuple(fit.model_copy(update={"capable": False}) for fit in arm.devices)}
    )
    assert FitReport(arms=(incapable,)).least_train_seconds == {}
