"""Whether a repeated run, and one that was stopped and resumed, have the losses of the first."""

import tempfile
from functools import partial
from pathlib import Path

from app.domain.methods import FullSpec
from benchmarks.gpu.models import SMALL, TINY, texts
from benchmarks.gpu.runs import LORA, Run, losses, prepare, steps
from benchmarks.gpu.session import NotMeasured, Part, Session, Value
from tests.support.tiny.texts import Recorder
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.progress import Stopped


def resume(session: Session, part: Part) -> None:
    """Whether a run that was stopped and resumed has the losses of one that was not, and whether a repeated run has."""
    size, batch, length = (TINY, 2, 32) if session.rehearsal else (SMALL, 8, 512)
    prepare(session, size)
    for method in (LORA, FullSpec()):
        for bf16 in (True, False):
            run = Run(size, method, texts(12 * batch, length), steps(12, batch, length, bf16=bf16))
            label: dict[str, Value] = {"method": method.label, "precision": "bf16" if bf16 else "fp32"}
            session.measure(part, label, partial(_resumed, session, run))


def _resumed(session: Session, run: Run) -> dict[str, Value]:
    whole = losses(session.apart(lambda: run.trained(session)[1]))
    again = losses(session.apart(lambda: run.trained(session)[1]))
    with tempfile.TemporaryDirectory(dir=session.scratch) as folder:

        def stopped() -> str:
            recorder = Recorder(stop_at=6)
            try:
                Attempt(run.job(session, Path(folder) / "first"), recorder).run()
            except Stopped:
                return str(recorder.checkpoints[-1][1])
            raise NotMeasured("The run ended before it was stopped.")

        checkpoint = session.apart(stopped)

        def continued() -> list[float]:
            recorder = Recorder()
            Attempt(run.job(session, Path(folder) / "second", resume=checkpoint), recorder).run()
            return losses(recorder)

        after = session.apart(continued)
    return {
        "steps": len(whole),
        "repeated is identical": again == whole,
        "largest difference when repeated": max(abs(a - b) for a, b in zip(whole, again, strict=True)),
        "resumed is identical": after == whole,
        "largest difference when resumed": max(abs(a - b) for a, b in zip(whole, after, strict=True)),
    }
