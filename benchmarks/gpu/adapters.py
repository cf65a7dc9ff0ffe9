"""Several LoRA adapters on one base model, beside one."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from app.domain.resources.calibration import ASSUMED
from app.domain.runs.result import RunResult
from app.domain.runs.together import group_peak_bytes
from benchmarks.gpu.runs import GIB, Run
from benchmarks.gpu.session import NotMeasured, Part, Session, Value
from tests.support.tiny.texts import Recorder
from worker.engine.group.attempt import GroupedAttempt, run_group
from worker.engine.loop.failures import failure

COUNTS = (1, 2, 4, 8)


def measure(session: Session, part: Part, run: Run) -> None:
    """Train groups of several sizes with different learning rates; a group of one is a run by itself."""
    alone = 0.0
    for count in COUNTS:
        if session.measure(part, {"model": run.size.name, "adapters": count}, partial(_group, session, run, count)):
            row = part.rows[-1]
            rate = float(row["tokens/s of the group"] or 0)
            alone = alone or rate
            row["times one"] = rate / alone
            session.write()


def _group(session: Session, run: Run, count: int) -> dict[str, Value]:
    """The estimate comes first: see `Run.estimated`."""
    bf16 = session.apart(lambda: run.in_bf16(session))
    limit = group_peak_bytes(run.estimated(session, bf16=bf16), count) + ASSUMED[session.device, bf16][0]
    ends: list[RunResult | BaseException] = []

    def ended(place: int, end: RunResult | BaseException, attempt: GroupedAttempt | None) -> None:
        ends.append(end)

    with tempfile.TemporaryDirectory(dir=session.scratch) as folder:
        runs = [
            replace(run, training=run.training.model_copy(update={"learning_rate": 1e-4 * (place + 1)}))
            for place in range(count)
        ]
        jobs = [one.job(session, Path(folder) / str(place)) for place, one in enumerate(runs)]
        run_group(jobs, [Recorder() for _job in jobs], ended)
    results = [end for end in ends if isinstance(end, RunResult)]
    for end in ends:
        if isinstance(end, BaseException):
            raise NotMeasured(failure(end).message) from end
    peak = max(result.memory.train_peak_bytes for result in results)
    return {
        "tokens/s of the group": sum(r.tokens for r in results) / sum(r.clocks.train for r in results),
        "estimated limit (GiB)": limit / GIB,
        "measured (GiB)": peak / GIB,
    }
