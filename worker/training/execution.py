"""Executes a trainer's job: the attempt, its reports, and its outcome. Imports everything that a run needs."""

import os
import threading
import time
import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow.dataset  # noqa: F401 pyarrow.parquet would import it when it reads its first file
from pydantic import TypeAdapter, ValidationError

from app.domain.failures import Failure, FailureCode
from app.domain.messages import _
from app.domain.models.hub_access import HubAccess
from app.domain.models.weight_delta import WeightDeltas
from app.domain.runs.job import (
    AloneReport,
    CheckpointReport,
    DownloadReport,
    EvaluationReport,
    FailureReport,
    GroupJob,
    LogReport,
    MemberReport,
    PhaseReport,
    ResultReport,
    RunReport,
    StepsReport,
    StoppedReport,
    TrainJob,
    WeightDeltasReport,
    WorkingReport,
)
from app.domain.runs.result import Evaluation, RunResult, StepMetrics
from app.domain.runs.status import Phase
from worker.children.child import EXIT_ABANDONED, EXIT_STOPPED
from worker.engine.group.attempt import TrainsAlone, run_group
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.failures import failure
from worker.engine.loop.progress import Silence, Stopped
from worker.engine.models.hub.access import acting_for
from worker.engine.ranks.team import Followed, Team
from worker.training.followers import Followers, meeting_of
from worker.training.protocol import Channel, Position

_job: TypeAdapter[TrainJob | GroupJob] = TypeAdapter(TrainJob | GroupJob)


class Sender(Protocol):
    def send(self, message: RunReport) -> None: ...


class Stop(Protocol):
    def is_set(self) -> bool:
        """It was made."""


@dataclass(frozen=True)
class MemberChannel:
    """The channel of one run of a group."""

    channel: Channel
    run_id: int

    def send(self, message: RunReport) -> None:
        self.channel.send(MemberReport(run_id=self.run_id, report=message))


@dataclass(frozen=True)
class MemberStop:
    """The request to stop one run of a group, or all."""

    every: threading.Event
    stopped: Collection[int]
    run_id: int

    def is_set(self) -> bool:
        """It was made."""
        return self.every.is_set() or self.run_id in self.stopped


class Reports:
    """The engine's `ProgressSink`: sends reports to the supervisor, and passes on its stop request."""

    def __init__(self, channel: Sender, stop: Stop, working_seconds: float = 30.0) -> None:
        """`working_seconds`: how often to report work that reports nothing else, such as a long evaluation."""
        self._channel, self._stop = channel, stop
        self._working_seconds, self._worked_at = working_seconds, time.monotonic()

    def phase(self, phase: Phase, total_steps: int | None = None) -> None:
        self._channel.send(PhaseReport(phase=phase, total_steps=total_steps))

    def download(self, done_bytes: int, total_bytes: int) -> None:
        self._channel.send(DownloadReport(done_bytes=done_bytes, total_bytes=total_bytes))

    def steps(self, steps: Sequence[StepMetrics]) -> None:
        if steps:
            self._channel.send(StepsReport(steps=list(steps)))

    def evaluation(self, evaluation: Evaluation, items: Sequence[str] = (), scores: Sequence[float] = ()) -> None:
        self._channel.send(EvaluationReport(evaluation=evaluation, items=list(items), scores=list(scores)))

    def log(self, message: str) -> None:
        self._channel.send(LogReport(message=message))

    def checkpoint(self, step: int, folder: Path) -> None:
        self._channel.send(CheckpointReport(step=step, folder=str(folder)))

    def weight_deltas(self, weight_deltas: WeightDeltas) -> None:
        self._channel.send(WeightDeltasReport(weight_deltas=weight_deltas))

    def raise_if_stopped(self) -> None:
        """Raise `Stopped` if a stop was requested. Before every batch, so it also reports that the work goes on."""
        if self._stop.is_set():
            raise Stopped
        if time.monotonic() - self._worked_at > self._working_seconds:
            self._worked_at = time.monotonic()
            self._channel.send(WorkingReport())


def execute(
    file: Path,
    channel: Channel,
    stop: threading.Event,
    stopped: Collection[int] = (),
    *,
    hub: HubAccess | None = None,
) -> int:
    """Run the job in a file and report how it ended; returns the exit status. `stopped`: runs of a group that are to
    stop."""
    with acting_for(hub):
        return _executed(file, channel, stop, stopped, hub)


def _executed(
    file: Path, channel: Channel, stop: threading.Event, stopped: Collection[int], hub: HubAccess | None
) -> int:
    job = _read(file, channel)
    if job is None:
        return 0
    if isinstance(job, GroupJob):
        return _execute_group(job, channel, stop, stopped)
    attempt: Attempt | None = None
    followers: Followers | None = None
    try:
        world = job.spec.training.devices
        if world > 1:
            followers = Followers(file, world, channel, hub)
        attempt = Attempt(_share_of(job), Reports(channel, stop), _team(job, 0, file) if world > 1 else None)
        channel.send(ResultReport(result=attempt.run()))
    except Stopped:
        return EXIT_STOPPED
    except BrokenPipeError:
        return EXIT_ABANDONED
    except Exception as error:
        if followers is not None:
            followers.settle()
        channel.send(_failed(error, attempt, job))
    return 0


def follow(position: Position, channel: Channel) -> int:
    """Run another rank's part of a job; returns the exit status."""
    job = _read(position.job, channel)
    if not isinstance(job, TrainJob):
        return 0
    attempt: Attempt | None = None
    try:
        attempt = Attempt(_share_of(job), Silence(), _team(job, position.rank, position.job))
        with acting_for(position.hub):
            attempt.run()
    except Followed:
        return 0
    except Stopped:
        return EXIT_STOPPED
    except Exception as error:
        channel.send(_failed(error, attempt, job))
    return 0


def _team(job: TrainJob, rank: int, file: Path) -> Team:
    """The team of a job in a file, as one rank sees it."""
    return Team(rank, job.spec.training.devices, meeting_of(file))


def _read(file: Path, channel: Channel) -> TrainJob | GroupJob | None:
    """The job, or None after a report."""
    try:
        return _job.validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        traceback.print_exc()
        message = _("The job file is invalid: %(why)s", why=error)
        channel.send(FailureReport(failure=Failure(code=FailureCode.INTERNAL, message=message)))
        return None


def _share_of(job: TrainJob) -> TrainJob:
    """The job with this process's share of the processors."""
    here = job.spec.training.devices
    if here == 1:
        return job
    threads = job.threads or os.cpu_count() or 1
    return job.model_copy(update={"threads": max(1, threads // here)})


def _execute_group(group: GroupJob, channel: Channel, stop: threading.Event, stopped: Collection[int]) -> int:
    channels = [MemberChannel(channel, job.run_id) for job in group.jobs]
    sinks = [Reports(channel, MemberStop(stop, stopped, channel.run_id)) for channel in channels]
    abandoned = threading.Event()

    def ended(place: int, end: RunResult | BaseException, attempt: Attempt | None) -> None:
        """Report how a member ended. Runs in the member's thread, from which no exception would reach `run_group`."""
        report: RunReport
        match end:
            case BrokenPipeError():
                abandoned.set()
                return
            case RunResult():
                report = ResultReport(result=end)
            case Stopped():
                report = StoppedReport()
            case TrainsAlone():
                report = AloneReport(why=str(end))
            case _:
                report = _failed(end, attempt, group.jobs[place])
        try:
            channels[place].send(report)
        except BrokenPipeError:
            abandoned.set()

    try:
        run_group(group.jobs, sinks, ended)
    except BrokenPipeError:  # of a line to every log, which the group writes
        abandoned.set()
    if abandoned.is_set():
        return EXIT_ABANDONED
    return EXIT_STOPPED if stop.is_set() else 0


def _failed(error: BaseException, attempt: Attempt | None, job: TrainJob) -> FailureReport:
    traceback.print_exception(error)
    instruments = attempt.instruments if attempt else None
    peak = instruments.memory.peak() if instruments else None
    ledger = instruments.ledgers.interrupted if instruments else None
    saved = attempt.saved_bytes if attempt else None
    return FailureReport(failure=failure(error, peak, ledger, Path(job.output), saved))
