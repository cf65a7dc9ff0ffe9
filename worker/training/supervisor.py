"""Supervise attempts: start a trainer process, pass on reports, renew leases, carry out cancel, drain and pause.

When the lease of a run is lost or another attempt has taken it over, nothing more of it is written. One trainer may
train several runs, a group. Each run has its own claim, lease, checkpoints and outcome, as if it trained alone; a run
that is cancelled, fails or is taken over leaves the group, and the others continue. If the process ends, all its runs
end and are queued again. A run that runs out of memory in its own pass is queued again too, because it may have enough
memory alone. No such attempt counts, and a run that was claimed before trains alone, so a group costs a run at most
one restart.

Device time is shared: while n runs are left, each is charged an nth of it.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import structlog

from app.domain.runs.ending import Fail, HandBack, train_alone
from app.domain.runs.job import GroupJob, MemberReport, TrainJob
from app.services.runs import attempts
from app.services.runs.attempts import Claim, Fenced
from app.store.files.files import StoreUnavailable
from worker.nodes.context import Context
from worker.training.attempt import SupervisedAttempt
from worker.training.host import TrainerProcess
from worker.training.lease import LeaseLost
from worker.training.outcome import failure_of
from worker.training.workdir import workdir

log = structlog.get_logger()


LINGER_SECONDS = 10.0
"""How long a trainer may take to exit after its final report."""


def supervise(context: Context, *claims: Claim) -> None:
    """Execute a claimed run, or several together, and write the outcome of each once. The first one has the worker and
    its GPUs."""
    with workdir(context.settings.home) as folder:
        _Supervisor(context, claims, folder).run()


class _Supervisor:
    """The runs that one trainer trains."""

    def __init__(self, context: Context, claims: Sequence[Claim], folder: Path) -> None:
        self.context, self.claims, self.folder, self.settings = context, claims, folder, context.settings
        self.live: list[SupervisedAttempt] = []
        """Runs without an outcome; the first has the worker and its GPUs."""
        self.progress_at = time.monotonic()
        self._charged_at = time.monotonic()
        self._shares = dict.fromkeys((claim.run_id for claim in claims), 0.0)
        """Seconds of the group's time that each run of a group is charged, by id."""
        self._trainer: TrainerProcess | None = None
        self._gpus_lost = False
        """Another worker may use them."""
        for claim in claims:
            own = folder / str(claim.run_id) if len(claims) > 1 else folder
            own.mkdir(exist_ok=True)
            self.live.append(SupervisedAttempt(context, claim, own))
            if claim.clock is not None and len(claims) > 1:
                claim.clock.share = partial(self._share, claim.run_id)
        for member in self.live:
            member.fetched = self.live[0].fetched
            member.outcome.shared_seconds = 0.0 if len(claims) > 1 else None
            member.lease.companions = [other.lease for other in self.live if other is not member]

    def run(self) -> None:
        """Prepare the jobs, follow the trainer to its end, and write the outcomes."""
        try:
            self._run()
        except Exception as error:
            for member in [*self.live]:
                with self._guarded(member):
                    raise error

    def _run(self) -> None:
        jobs: list[TrainJob] = []
        for member in [*self.live]:
            with self._guarded(member):
                jobs.append(member.prepare())
        if self._gpus_lost:
            for member in [*self.live]:
                with self._guarded(member):
                    member.outcome.apply(train_alone("the GPU of its group was given to another run"))
                self._leave(member)
        if not self.live:
            return
        if len(jobs) == 1:
            self.live[0].outcome.shared_seconds = None
        job = GroupJob(jobs=jobs) if len(jobs) > 1 else jobs[0]
        gpus, hub = self.live[0].claim.gpus, self.live[0].hub  # they have one owner, that of their study
        trainer = self._trainer = self.context.trainers.start(job, self.folder, self.settings.lease_seconds, gpus, hub)
        for member in self.live:
            member.lease.keep_alive = trainer.renew_lease
        log.info("trainer started", run_ids=[member.claim.run_id for member in self.live], pid=trainer.pid)
        try:
            while self.live and not trainer.finished_reporting:
                self._follow(trainer, alone=len(jobs) == 1)
            if self.live:
                trainer.exit_status(LINGER_SECONDS)
        finally:
            trainer.kill()
        self._charge()
        for member in [*self.live]:
            self._end(member, trainer)

    def _follow(self, trainer: TrainerProcess, *, alone: bool) -> None:
        by_id = {member.claim.run_id: member for member in self.live}
        for report in trainer.reports(self.settings.report_seconds):
            self.progress_at = time.monotonic()
            if not isinstance(report, MemberReport):
                for member in self.live:
                    member.take([report])
            elif report.run_id in by_id:
                by_id[report.run_id].take([report.report])
        self._charge()
        for member in [*self.live]:
            with self._guarded(member):
                member.renew(trainer)
                member.checkpoints.tend()
                self._enforce(member, trainer, None if alone else member.claim.run_id)
            if member in self.live and member.over and not alone:
                self._end(member, trainer)

    def _enforce(self, member: SupervisedAttempt, trainer: TrainerProcess, run_id: int | None) -> None:
        """Carry out orders for a run; kill a trainer that does not obey for any of them, or makes no progress."""
        moment = time.monotonic()
        if member.lease.ordered and member.stop_requested_at is None:
            trainer.ask_to_stop(run_id)
            member.stop_requested_at = moment
        asked = [other.stop_requested_at for other in self.live]
        if all(at is not None and moment - at > self.settings.stop_seconds for at in asked):
            trainer.kill()
        if moment - self.progress_at > self.settings.stall_seconds:
            for other in self.live:
                other.stalled = True
            trainer.kill()

    def _charge(self) -> None:
        """Divide the time since the last call between the runs that are left."""
        moment = time.monotonic()
        for member in self.live:
            seconds = (moment - self._charged_at) / len(self.live)
            self._shares[member.claim.run_id] += seconds
            if member.outcome.shared_seconds is not None:
                member.outcome.shared_seconds += seconds
        self._charged_at = moment

    def _share(self, run_id: int) -> float:
        """Seconds that a run is charged so far."""
        pending = time.monotonic() - self._charged_at
        left = any(member.claim.run_id == run_id for member in self.live)
        return self._shares[run_id] + (pending / len(self.live) if left else 0.0)

    def _end(self, member: SupervisedAttempt, trainer: TrainerProcess) -> None:
        """Write the outcome of a run, which leaves the group."""
        with self._guarded(member):
            self._pass_on(member)
            member.conclude(trainer)
        self._leave(member)

    @contextmanager
    def _guarded(self, member: SupervisedAttempt) -> Iterator[None]:
        """Handle the errors that end a run's attempt from outside."""
        logger = log.bind(run_id=member.claim.run_id, epoch=member.claim.epoch)
        try:
            yield
            return
        except Fenced as fenced:
            logger.warning("another attempt has taken over the run; nothing more is written", reason=fenced.message)
            self._lose(member)
        except LeaseLost as lost:
            logger.error(f"{lost}; the lease has run out, so the sweep will queue the run again")
            self._lose(member)
        except StoreUnavailable as error:
            with suppress(Fenced, LeaseLost):
                self._pass_on(member)
                member.outcome.apply(HandBack(error.message))
        except Exception as error:
            logger.exception("the attempt could not be supervised")
            with suppress(Fenced, LeaseLost):
                self._pass_on(member)
                member.outcome.apply(Fail(failure_of(error, member.folder)))
        self._leave(member)

    def _pass_on(self, member: SupervisedAttempt) -> None:
        """Before the run that has the worker ends: the next one has it."""
        if member is self.live[0] and len(self.live) > 1:
            ended, going_on = member.claim, self.live[1].claim
            self.live[1].lease.write(lambda session: attempts.pass_on(session, ended, going_on))

    def _lose(self, member: SupervisedAttempt) -> None:
        """Drop a run whose lease is lost. If it holds the GPUs, they are lost as well, because another worker may use
        them already. A worker without GPUs continues with the next run."""
        if member is self.live[0] and member.claim.gpus:
            self._gpus_lost = True
            if self._trainer is not None:
                self._trainer.kill()
        elif not member.claim.gpus:
            with suppress(LeaseLost):
                self._pass_on(member)

    def _leave(self, member: SupervisedAttempt) -> None:
        if member in self.live:
            self._charge()
            if self._trainer is not None and not member.over:
                self._trainer.ask_to_stop(member.claim.run_id)
            self.live.remove(member)
            for other in self.live:
                other.lease.companions = [one.lease for one in self.live if one is not other]
            member.checkpoints.close()
            member.outcome.remove_unused_files()
