"""Trials of a search that train together: claimed at once, supervised with one trainer, ended one by one."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.domain.failures import Failure, FailureCode, RunFailed
from app.domain.messages import Message
from app.domain.resources.devices import Gpu
from app.domain.runs.status import RunStatus
from app.domain.studies.spec import StudySpec
from app.services.data import datasets
from app.services.runs import attempts, runs
from app.services.runs.attempts import Claim, Fenced
from app.services.studies import studies
from app.services.workers import workers as worker_service
from app.settings import ROOT
from app.store.models import queries as base_models
from app.store.resources import estimates as estimate_queries
from app.store.runs import queries as run_queries
from app.store.tables import DeviceRow, EstimateRow, RunRow
from app.store.workers import queries as workers
from tests.support.rows.results import result
from tests.support.servers.supervised import behaving, messages, row
from tests.support.tiny import texts as tiny
from worker.engine.estimation.estimate import estimate_run
from worker.nodes.context import Context
from worker.training.attempt import SupervisedAttempt
from worker.training.supervisor import _Supervisor, supervise
from worker.training.warm_pool import WarmPool

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
ESTIMATES: list[dict[str, Any]] = []
RATES = [1e-4, 1e-3, 3e-3, 1e-2]
GIB = 2**30


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The registered base model's directory."""
    return tiny.save_model(tmp_path / "model")


def submitted(
    here: Context,
    model: Path,
    *,
    together: str = "trials",
    tuning: dict[str, Any] | None = None,
    rates: Sequence[float] = RATES,
    memory: int = 8 * GIB,
    gpus: Sequence[Gpu] = (),
    **training: int,
) -> list[int]:
    """Queued trials of LoRA, two seeds at each of the rates, whose estimates are ready, for a worker with memory. With
    another `tuning`, such as none, what that queues."""
    searched = tuning is None or tuning["kind"] == "grid"
    body = {
        "name": f"Words {together}",
        "base_model": "tiny",
        "dataset": "words",
        "seeds": [0] if searched else [0, 1, 2, 3],
        "train_together": together,
        "training": tiny.FAST.model_dump(exclude={"learning_rate", "seed"}) | {"num_train_epochs": 1} | training,
        "tuning": tuning or {"kind": "grid", "rates": len(rates), "seeds": 2},
        "arms": [
            {
                "method": {"kind": "lora", "r": 4, "target_modules": ["query", "value"]},
                **({"search": {"learning_rate": list(rates)}} if searched else {"learning_rate": 1e-3}),
            }
        ],
    }
    with here.database.transaction() as session:
        base = base_models.by_name(session, "tiny")
        assert base
        base.location = str(model)
        kind = {"device": "cuda", "device_name": "NVIDIA L4"} if gpus else {"device": "cpu", "device_name": "CPU"}
        worker_service.sign_on(session, "w1", memory_bytes=memory, cores=1, gpus=gpus, **kind)
        datasets.register(
            session, here.files, name="words", title="Words", form="labelled", labels=tiny.LABELS, rows=tiny.rows()
        )
        study = studies.submit(session, here.bell, StudySpec.model_validate(body))
        found = run_queries.of_study(session, study.id)
        for run in found:
            estimate = session.get_one(EstimateRow, run.estimate_id)
            if not ESTIMATES:  # that of every run in this file, which only differ in what no estimate depends on
                request = estimate.request.model_copy(update={"location": str(model)})
                ESTIMATES.append(estimate_run(request, None).model_dump(mode="json"))
            estimate.result_json, estimate.status = ESTIMATES[0], "ready"
        worker_service.sign_on(session, "w1", memory_bytes=memory, cores=1, gpus=gpus, **kind)
        return [run.id for run in found]


def claimed(here: Context, run_id: int, worker: str = "w1", gpus: Sequence[str] | None = None) -> list[Claim]:
    with here.database.transaction() as session:
        claim = attempts.claim(session, run_id, worker, here.settings.lease_seconds, gpus)
        assert claim is not None
        return [claim, *attempts.claim_companions(session, claim, here.settings.lease_seconds)]


def rows(here: Context, ids: Sequence[int]) -> list[RunRow]:
    return [row(here, run_id) for run_id in ids]


@pytest.mark.slow
def test_a_claim_takes_the_other_rates_of_its_seed_with_it(here: Context, model: Path) -> None:
    ids = submitted(here, model)
    claims = claimed(here, ids[0])
    assert [claim.run_id for claim in claims] == ids[:4], "the trials of the second seed are not among them"
    assert {claim.spec.training.seed for claim in claims} == {claims[0].spec.training.seed}
    assert [run.status for run in rows(here, ids)] == ["running"] * 4 + ["queued"] * 4
    with here.database.reading() as session:
        worker = workers.get(session, "w1")
        assert worker and worker.run_id == ids[0]
    for claim in claims:
        others = ", ".join(str(other) for other in ids[:4] if other != claim.run_id)
        assert messages(here, claim.run_id)[-1] == f"trains together with {others} in one process, on one base model"
    with here.database.transaction() as session:
        assert attempts.claim(session, ids[1], "w2", 45.0) is None, "its ring finds nothing to claim"


@SQLITE
@pytest.mark.parametrize(
    ("changes", "size"), [({"together": "none"}, 1), ({"memory": 890 * 2**20}, 2), ({"memory": 100 * 2**20}, 1)]
)
def test_the_option_and_the_memory_limit_a_group(
    here: Context, model: Path, changes: dict[str, int], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of 890 MiB has 101 for a run, and 63 of them are the assumed constant with its band."""
    monkeypatch.setattr("app.services.runs.attempts.companions.most_members", _by_the_constant)
    assert len(claimed(here, submitted(here, model, **changes)[0])) == size


def _by_the_constant(estimate: Any, usable: float, constant: float) -> int:
    """Members of 15 MiB, since a tiny model's take a hundredth of that."""
    return max(1, int((usable - constant) // (15 * 2**20)))


@SQLITE
def test_a_group_has_a_largest_size(here: Context, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.runs.attempts.companions.MOST_MEMBERS", 3)
    assert len(claimed(here, submitted(here, model)[0])) == 3


@SQLITE
def test_trials_with_a_budget_of_seconds_train_alone(here: Context, model: Path) -> None:
    """A shared time would buy more trials than another arm gets for it."""
    tuning = {"kind": "random", "budget": 60, "unit": "seconds"}
    ids = submitted(here, model, tuning=tuning)
    assert [claim.run_id for claim in claimed(here, ids[0])] == ids[:1]


@SQLITE
def test_seeds_train_together_but_for_the_first_whose_time_is_the_arms(here: Context, model: Path) -> None:
    ids = submitted(here, model, together="trials_and_seeds", tuning={"kind": "none"})
    assert [claim.run_id for claim in claimed(here, ids[0])] == ids[:1]
    claims = claimed(here, ids[1])
    assert [claim.run_id for claim in claims] == ids[1:] and len({claim.spec.training.seed for claim in claims}) == 3


@SQLITE
def test_seeds_train_together_only_beside_one_that_trains_alone(here: Context, model: Path) -> None:
    """If that one fails, the next one trains alone: the arm needs a time and a memory."""
    ids = submitted(here, model, together="trials_and_seeds", tuning={"kind": "none"})
    [first] = claimed(here, ids[0])
    with here.database.transaction() as session:
        attempts.fail(session, here.bell, first, Failure(code=FailureCode.DIVERGED, message="loss is not finite"))
    [second] = claimed(here, ids[1])
    with here.database.transaction() as session:  # as if it had begun in a group
        session.get_one(RunRow, second.run_id).shared_seconds = 0.0
    assert [claim.run_id for claim in claimed(here, ids[2])] == ids[2:3]
    assert [claim.run_id for claim in claimed(here, ids[3])] == ids[3:]


@SQLITE
def test_seeds_train_alone_where_only_trials_may_train_together(here: Context, model: Path) -> None:
    ids = submitted(here, model, tuning={"kind": "none"})
    assert [claim.run_id for claim in claimed(here, ids[1])] == ids[1:2]


@SQLITE
def test_an_idle_worker_gets_its_share(here: Context, model: Path) -> None:
    ids = submitted(here, model)
    with here.database.transaction() as session:
        worker_service.sign_on(session, "w2", device="cpu", device_name="CPU", memory_bytes=8 * GIB, cores=1)
    assert [claim.run_id for claim in claimed(here, ids[0])] == ids[:2]
    assert [claim.run_id for claim in claimed(here, ids[2], "w2")] == ids[2:4]


@SQLITE
def test_what_has_no_estimate_or_is_tried_again_trains_alone(here: Context, model: Path) -> None:
    ids = submitted(here, model)
    with here.database.transaction() as session:
        session.get_one(RunRow, ids[0]).estimate_id = None
    [alone] = claimed(here, ids[0])
    with here.database.transaction() as session:
        attempts.back_to_queue(session, here.bell, alone, "lost", counted=True)
    assert [claim.run_id for claim in claimed(here, ids[1])] == ids[1:4], "without the one that is tried again"


def holders(here: Context) -> list[int | None]:
    """The run of every GPU."""
    with here.database.reading() as session:
        return [device.run_id for device in session.query(DeviceRow).order_by(DeviceRow.uuid)]


def test_a_group_has_one_gpu_which_its_last_run_frees(
    here: Context, model: Path, meanwhile: Callable[..., None]
) -> None:
    gpus = [Gpu(uuid=f"GPU-{name}", name="NVIDIA L4", memory_bytes=24 * GIB) for name in "ab"]
    ids = submitted(here, model, gpus=gpus)
    claims = claimed(here, ids[0], gpus=["GPU-a", "GPU-b"])
    assert [claim.run_id for claim in claims] == ids[:2], "the free GPU gets its share"
    assert {(claim.device, claim.gpus) for claim in claims} == {("cuda", ("GPU-a",))}
    assert holders(here) == [ids[0], None]
    held: list[list[int | None]] = []

    def cancel(session: Session) -> None:
        held.append(holders(here))
        runs.cancel(session, here.bell, ids[1])

    meanwhile(ids[1], cancel, until=lambda: row(here, ids[0]).status == "succeeded")
    supervised(here, claims, "succeeds", "waits", visible={"GPU-a": "0", "GPU-b": "1"})
    assert [run.status for run in rows(here, ids[:2])] == ["succeeded", "cancelled"]
    assert held == [[ids[1], None]] and holders(here) == [None, None]


def not_prepared(monkeypatch: pytest.MonkeyPatch, run_ids: Sequence[int], error: Exception) -> None:
    """These runs fail before their trainer starts."""
    plain = SupervisedAttempt.prepare

    def prepare(self: SupervisedAttempt) -> Any:
        if self.claim.run_id in run_ids:
            raise error
        return plain(self)

    monkeypatch.setattr(SupervisedAttempt, "prepare", prepare)


def test_a_group_that_loses_its_gpu_before_it_begins_is_queued_again(
    here: Context, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = [Gpu(uuid="GPU-a", name="NVIDIA L4", memory_bytes=24 * GIB)]
    ids = submitted(here, model, gpus=gpus)[:4]
    claims = claimed(here, ids[0], gpus=["GPU-a"])
    not_prepared(monkeypatch, ids[:1], Fenced(Message("another attempt has it")))
    supervised(here, claims, *["succeeds"] * 3, visible={"GPU-a": "0"})
    assert [run.status for run in rows(here, ids)] == ["running", *["queued"] * 3]


@SQLITE
def test_a_run_whose_companions_cannot_begin_trains_alone(
    here: Context, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its failure is its own, and it has no share of a group's time."""
    ids = submitted(here, model)[:4]
    claims = claimed(here, ids[0])
    not_prepared(monkeypatch, ids[:3], RunFailed(FailureCode.MODEL_UNAVAILABLE, Message("The model is away.")))
    supervise(behaving(here, "crashes"), *claims)
    found = rows(here, ids)
    codes = ["model_unavailable"] * 3 + ["internal"]
    assert [(run.status, run.failure_code) for run in found] == [("failed", code) for code in codes]
    assert found[3].shared_seconds is None


def supervised(here: Context, claims: Sequence[Claim], *behaviours: str, visible: dict[str, str] | None = None) -> None:
    fake = ROOT / "tests/support/fakes/group_trainer.py"
    trainers = WarmPool((sys.executable, str(fake), *behaviours))
    if visible:
        trainers.use(visible, 0)
    supervise(replace(here, trainers=trainers), *claims)


@SQLITE
def test_each_run_ends_in_its_own_way(here: Context, model: Path, meanwhile: Callable[..., None]) -> None:
    """One is cancelled while it trains; the others succeed and fail before it, and none of them waits for it."""
    ids = submitted(here, model)[:4]
    claims = claimed(here, ids[0])

    def cancel(session: Any) -> None:
        runs.cancel(session, here.bell, ids[3])

    meanwhile(ids[3], cancel)
    supervised(here, claims, "succeeds", "fails", "succeeds", "waits")
    found = rows(here, ids)
    assert [run.status for run in found] == ["succeeded", "failed", "succeeded", "cancelled"]
    assert found[1].failure_code == "diverged"
    assert found[0].result and found[0].result.trained_together == 4
    own = [(found[0].wall_seconds, found[0].train_seconds, found[0].peak_bytes, found[0].tokens_per_second)]
    assert own == [(None, None, None, None)] and found[0].device_seconds == found[0].shared_seconds
    assert 0 < found[1].device_seconds < (found[1].finished_at - found[1].started_at).total_seconds()  # type: ignore[operator]
    assert found[3].device_seconds > 0
    began = min(run.started_at for run in found if run.started_at)
    ended = max(run.finished_at for run in found if run.finished_at)
    charged = [run.charged_seconds for run in found]
    assert min(charged) > 0 and sum(charged) <= (ended - began).total_seconds(), "the group's time, once"
    with here.database.reading() as session:
        worker = workers.get(session, "w1")
        assert worker and worker.run_id is None
    assert not list((here.settings.home / "work").iterdir())


@pytest.mark.slow
@SQLITE
def test_a_worker_that_drains_hands_back_what_still_trains(
    here: Context, model: Path, meanwhile: Callable[..., None]
) -> None:
    ids = submitted(here, model)[:4]
    claims = claimed(here, ids[0])
    meanwhile(ids[1], lambda session: workers.drain(session, "w1"))
    supervised(here, claims, "succeeds", "waits", "waits", "waits")
    found = rows(here, ids)
    assert [(run.status, run.attempts) for run in found] == [("succeeded", 1), *[("queued", 0)] * 3]


@SQLITE
def test_a_killed_trainer_queues_the_others_again_and_they_train_alone(here: Context, model: Path) -> None:
    ids = submitted(here, model)[:4]
    supervised(here, claimed(here, ids[0]), "succeeds", "waits", "waits", "kills")
    found = rows(here, ids)
    assert [(run.status, run.attempts) for run in found] == [("succeeded", 1), *[("queued", 0)] * 3], "it did not count"
    [again] = claimed(here, ids[1])
    assert again.run_id == ids[1]
    resumed = result().model_copy(update={"trained_together": 4, "artifacts": []})
    with here.database.transaction() as session:
        attempts.finish(session, here.bell, again, resumed, {})
    ended = row(here, ids[1])
    assert (ended.train_seconds, ended.peak_bytes) == (None, None), "in part the group's"
    assert ended.shared_seconds == resumed.clocks.wall
    [again] = claimed(here, ids[2])
    assert row(here, ids[2]).shared_seconds == 0.0, "it was in a group"
    with here.database.transaction() as session:  # without a checkpoint it begins again
        attempts.finish(session, here.bell, again, result().model_copy(update={"artifacts": []}), {})
    ended = row(here, ids[2])
    assert (ended.shared_seconds, ended.wall_seconds) == (None, resumed.clocks.wall)


@SQLITE
def test_a_run_that_runs_out_of_memory_is_tried_again_alone(here: Context, model: Path) -> None:
    ids = submitted(here, model)[:4]
    supervised(here, claimed(here, ids[0]), "succeeds", "overflows", "succeeds", "succeeds")
    found = rows(here, ids)
    assert [(run.status, run.attempts) for run in found] == [("succeeded", 1), ("queued", 0), *[("succeeded", 1)] * 2]
    why = "queued again: The device ran out of memory; the run trains alone from now on"
    assert messages(here, ids[1])[-1] == why
    assert [claim.run_id for claim in claimed(here, ids[1])] == [ids[1]]


@SQLITE
def test_a_run_that_cannot_share_the_base_model_is_queued_for_itself(here: Context, model: Path) -> None:
    ids = submitted(here, model)[:4]
    supervised(here, claimed(here, ids[0]), "succeeds", "alone", "succeeds", "succeeds")
    assert [run.status for run in rows(here, ids)] == ["succeeded", "queued", "succeeded", "succeeded"]
    assert messages(here, ids[1])[-1].startswith("queued again: the checkpoint lacks a pooler; the run trains alone")


@SQLITE
def test_a_group_without_a_trainer_fails(here: Context, model: Path) -> None:
    ids = submitted(here, model)[:4]
    supervise(replace(here, trainers=WarmPool(("/absent/python",))), *claimed(here, ids[0]))
    assert [(run.status, run.failure_code) for run in rows(here, ids)] == [("failed", "internal")] * 4


@pytest.mark.slow
@SQLITE
def test_a_run_that_another_attempt_has_taken_leaves_the_group(
    here: Context, model: Path, meanwhile: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run has the worker: it passes to the next one. The trainer is told to leave the run."""
    ids = submitted(here, model)[:4]
    claims = claimed(here, ids[0])
    plain, occupied_by = _Supervisor._leave, []

    def leave(self: _Supervisor, member: SupervisedAttempt) -> None:
        plain(self, member)
        if member.claim.run_id != ids[0]:
            return
        with here.database.transaction() as session:
            occupied_by.append(workers.get(session, "w1").run_id)  # type: ignore[union-attr]
            for run_id in ids[1:]:
                runs.cancel(session, here.bell, run_id)

    def taken(session: Any) -> None:
        session.get_one(RunRow, ids[0]).epoch += 1
        workers.release(session, "w1", ids[0])

    monkeypatch.setattr(_Supervisor, "_leave", leave)
    meanwhile(ids[1], taken)
    supervised(here, claims, "waits", "waits", "waits", "waits")
    assert [run.status for run in rows(here, ids)] == ["running", *["cancelled"] * 3]
    assert occupied_by == [ids[1]]


@pytest.mark.slow
@SQLITE
def test_real_trainings_of_a_group_stop_one_by_one_and_all_together(
    here: Context, model: Path, meanwhile: Callable[..., None]
) -> None:
    ids = submitted(here, model, max_steps=1_000_000)[:4]
    claims = claimed(here, ids[0])
    meanwhile(
        ids[0],
        lambda session: runs.cancel(session, here.bell, ids[0]),
        until=lambda: all(run.step > 0 for run in rows(here, ids)),
    )
    meanwhile(
        ids[1], lambda session: workers.drain(session, "w1"), until=lambda: row(here, ids[0]).status == "cancelled"
    )
    supervise(here, *claims)
    found = rows(here, ids)
    assert [(run.status, run.attempts) for run in found] == [("cancelled", 1), *[("queued", 0)] * 3]
    assert all(len(run.checkpoints) == 1 for run in found[1:]), "from which each goes on"


@pytest.mark.nightly
@SQLITE
def test_a_search_whose_trials_train_together_chooses_as_one_whose_trials_train_alone(
    here: Context, model: Path
) -> None:
    losses: dict[int, list[float]] = {}
    for together, size in (("none", 1), ("trials", 2)):
        ids = submitted(here, model, together=together, tuning={"kind": "grid", "rates": 2}, rates=RATES[2:])
        while queued := [run.id for run in rows(here, ids) if run.status == RunStatus.QUEUED]:
            claims = claimed(here, queued[0])
            assert len(claims) == size
            supervise(here, *claims)
        found = rows(here, ids)
        assert {run.status for run in found} == {"succeeded"}
        results = [run.result for run in found]
        assert all(result and result.trained_together == size for result in results)
        losses[size] = [result.evaluations[-1].loss for result in results if result]
        with here.database.reading() as session:
            every = run_queries.of_study(session, found[0].study_id or 0)
            assert len(every) == len(ids) + 1, "the run at the best rate is queued"
            chosen = every[-1]
            assert chosen.trial_round is None
            losses[-size] = [chosen.learning_rate or 0.0]
            estimated = estimate_queries.get(session, found[0].estimate_id or 0)
            assert estimated.status == "ready"
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
    assert losses[-2] == losses[-1]
