"""Runs of the engine in this process, and what was estimated of them."""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from app.domain.data.dataset import TextRow
from app.domain.methods import LoraSpec, MethodSpec
from app.domain.resources.calibration import ASSUMED
from app.domain.resources.estimate import EstimateRequest, ResourceEstimate
from app.domain.runs.job import TrainJob
from app.domain.runs.result import RunResult
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from benchmarks.gpu.models import Size, saved
from benchmarks.gpu.session import NotMeasured, Session, Value
from tests.support.tiny.texts import Recorder
from worker.engine.device.environment import choose_device, computes_in_bf16
from worker.engine.estimation.estimate import estimate_run
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.failures import failure

LORA = LoraSpec(r=16, lora_alpha=32)
GIB = 2**30


@dataclass(frozen=True)
class Run:
    """A training on a Llama with random weights."""

    size: Size
    method: MethodSpec
    rows: Sequence[TextRow]
    training: TrainingArguments

    def saved(self, session: Session) -> Path:
        """The base model's directory."""
        return saved(self.size, session.scratch, session.device)

    def job(self, session: Session, directory: Path, **changes: Any) -> TrainJob:
        """A trial, which saves no weights and tests nothing, in a directory of its own."""
        output = directory / "output"
        output.mkdir(parents=True)
        content: dict[str, Any] = {
            "run_id": 1,
            "epoch": 1,
            "spec": RunSpec(
                base_model="random", dataset="words", task="causal-lm", method=self.method, training=self.training
            ),
            "model_location": str(self.saved(session)),
            "dataset_file": str(written(self.rows, directory)),
            "dataset_format": "text",
            "trial": True,
            "output": str(output),
            "device": session.device,
            "claimed_at": time.time(),
        }
        return TrainJob(**content | changes)

    def trained(self, session: Session) -> tuple[RunResult, Recorder]:
        """Train. Raises NotMeasured with the run's failure."""
        recorder = Recorder()
        with tempfile.TemporaryDirectory(dir=session.scratch) as folder:
            try:
                return Attempt(self.job(session, Path(folder)), recorder).run(), recorder
            except Exception as error:
                raise NotMeasured(failure(error).message) from error

    def in_bf16(self, session: Session) -> bool:
        """Whether the training computes in bfloat16, as an attempt decides. Uses CUDA."""
        if self.training.bf16 is not None:
            return self.training.bf16
        return computes_in_bf16(choose_device(session.device)) or self.method.computes_in_bf16

    def estimated(self, session: Session, *, bf16: bool) -> ResourceEstimate:
        """What the application estimates; in a forked process that sees no CUDA device, as there.

        To be called before this process uses CUDA: after a training, torch refuses a backward pass in a fork.
        """
        request = EstimateRequest(
            location=str(self.saved(session)),
            task="causal-lm",
            method=self.method,
            training=self.training,
            dataset_format="text",
            device=session.device,
            bf16=bf16,
        )

        def alone() -> ResourceEstimate:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
            with tempfile.TemporaryDirectory(dir=session.scratch) as folder:
                return estimate_run(request, written(self.rows, Path(folder)))

        return session.apart(alone)


def written(rows: Sequence[TextRow], directory: Path) -> Path:
    """A dataset's Parquet file."""
    file = directory / "rows.parquet"
    pq.write_table(pa.table({name: [getattr(row, name) for row in rows] for name in TextRow._fields}), file)
    return file


def peaks(session: Session, run: Run) -> dict[str, Value]:
    """Estimated and measured peak of a training, with its speed. The estimate comes first: see `Run.estimated`."""
    bf16 = session.apart(lambda: run.in_bf16(session))
    ledger = run.estimated(session, bf16=bf16).ledger.total
    result, _recorder = run.trained(session)
    if result.environment.precision != ("bf16" if bf16 else "fp32"):
        raise NotMeasured(f"The estimate was made for another precision than {result.environment.precision}.")
    constant = ASSUMED[session.device, bf16][0]
    measured = result.memory.train_peak_bytes
    return {
        "estimated (GiB)": (ledger + constant) / GIB,
        "measured (GiB)": measured / GIB,
        "error (%)": 100 * (ledger + constant - measured) / measured,
        "beyond the ledger (MiB)": (measured - ledger) / 2**20,
        "reserved (GiB)": (result.memory.reserved_bytes or 0) / GIB,
        "steady tokens/s": result.tokens / result.clocks.train,
        "precision": result.environment.precision,
    }


def losses(recorder: Recorder) -> list[float]:
    """Of every step."""
    return [step.loss for step in recorder.seen]


def steps(count: int, batch: int, length: int, **more: object) -> TrainingArguments:
    """Arguments of a short training. At a lower rate a norm's weight of 1 may keep its bfloat16 value for so few steps,
    which the audit takes for a frozen one."""
    arguments = {"max_steps": count, "per_device_train_batch_size": batch, "max_length": length}
    rate = {"learning_rate": 1e-3, "warmup_steps": 0, "lr_scheduler_type": "constant"}
    return TrainingArguments.model_validate(arguments | rate | more)


def prepare(session: Session, size: Size) -> None:
    """Write a model before anything is timed."""
    session.apart(lambda: str(Run(size, LORA, [], TrainingArguments()).saved(session)))


def about() -> dict[str, Value]:
    """The card and what the numbers depend on. Raises NotMeasured without a card."""
    if not torch.cuda.is_available():
        raise NotMeasured("There is no CUDA device here.")
    card = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info()
    return {
        "card": card.name,
        "memory (GiB)": total / GIB,
        "free with a context (GiB)": free / GIB,
        "compute capability": f"{card.major}.{card.minor}",
        "CUDA": torch.version.cuda,
        **{name: installed(name) for name in ("torch", "transformers", "peft", "bitsandbytes", "nvidia-ml-py")},
    }


def installed(name: str) -> str:
    """The version of a package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
