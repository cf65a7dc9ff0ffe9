"""Resource estimates by a rule of thumb, for pages: answers to queued requests, and runs with their ledgers."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.data.previews import Preview, PreviewRequest, PreviewRow, PreviewToken, SplitLengths
from app.domain.failures import Failure
from app.domain.methods import AnyMethod
from app.domain.resources.estimate import EstimateRequest, Lengths, MapCell, MapRequest, MemoryMap, ResourceEstimate
from app.domain.resources.ledger import Ledger, Moment, owners
from app.features.lab.computations import LabAnswer, LabRequest, OfModel
from app.services.resources import estimates
from app.services.resources.estimates import store
from app.services.resources.requests import run_request
from app.store.data import queries as datasets
from app.store.database.session import Database
from app.store.models import queries as base_models
from app.store.tables import EstimateRow, RunRow
from app.store.workers import queries as workers
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.filled import MIB, PEAK, SECONDS, TRAINABLE
from tests.support.rows.estimates import work
from tests.support.rows.lab import computed

PARAMETERS = 22_715_141
TOKEN = 24_000
"""Bytes of activations per token."""
RATE = 4e10
"""Floating-point operations per second of the device of the runs in `tests.support.filled.filled`."""
CONSTANT = 20 * MIB


def answer_requests(db: Database) -> int:
    """Answer every queued request and return how many there were."""
    bell = SilentBell()
    with db.transaction() as session:
        queued = list(
            session.scalars(
                select(EstimateRow.id).where(EstimateRow.status == "queued", EstimateRow.kind != "baseline")
            )
        )
    for estimate_id in queued:
        with db.transaction() as session:
            row = estimates.begin(session, estimate_id)
            if row is not None:
                estimates.ready(session, bell, row, _answer(row.request))
    return len(queued)


def _answer(
    request: EstimateRequest | PreviewRequest | MapRequest | LabRequest,
) -> ResourceEstimate | Preview | MemoryMap | LabAnswer:
    if isinstance(request, OfModel):
        return computed(request)
    if isinstance(request, PreviewRequest):
        return preview(request.max_length, learnt=request.task != "sequence-classification")
    return memory_map(request) if isinstance(request, MapRequest) else estimate(request)


def preview(max_length: int = 128, *, learnt: bool = True) -> Preview:
    """A truncated row, whatever the dataset holds; half of its tokens count in the loss."""
    words = [("[CLS]", False), ("good", False), (" thing", learnt), (" 1", learnt), ("[SEP]", False)]
    tokens = [PreviewToken(text=word, special=word.startswith("["), learnt=learns) for word, learns in words]
    row = PreviewRow(item="a", split="train", tokens=tokens, length=max_length + 5, kept=max_length, in_loss=2 * learnt)
    counts = [(5, 70), (60, 20), (205, 6)]
    return Preview(rows=[row], lengths=[SplitLengths(split="train", rows=96, looked_at=96, counts=counts)], seconds=0.1)


def estimate(request: EstimateRequest) -> ResourceEstimate:
    """The estimate for MiniLM, whatever the model is."""
    training = request.training
    ledger = ledger_of(
        request.method,
        training.per_device_train_batch_size,
        training.max_length,
        checkpointing=training.gradient_checkpointing,
        bf16=request.bf16,
    )
    flops = int(SECONDS.get(request.method.kind, 30.0) * RATE * 1.1)
    return ResourceEstimate(
        ledger=ledger,
        phases={"load": 90 * MIB, "train": ledger.total},
        lengths=Lengths(source="dataset", rows=1300, longest=training.max_length, mean=12.0),
        step_flops=flops // 246,
        train_flops=flops,
        train_work=work(flops),
        steps=246,
        trainable=trainable(request.method),
        total=PARAMETERS,
        file_bytes=4 * trainable(request.method) + 1496,
        seconds=1.5,
    )


def memory_map(request: MapRequest) -> MemoryMap:
    """A map with every cell filled."""
    cells = [
        MapCell(method=place, length=length, rows=rows, ledger=ledger_of(method, rows, length, bf16=request.bf16))
        for place, method in enumerate(request.methods)
        for length in request.lengths
        for rows in request.batch_sizes
    ]
    return MemoryMap(cells=cells, seconds=8.0)


def trainable(method: AnyMethod) -> int:
    """How many parameters a method trains."""
    return TRAINABLE.get(method.kind, 100_000)


def ledger_of(method: AnyMethod, rows: int, length: int, *, checkpointing: bool = False, bf16: bool = False) -> Ledger:
    """An estimated ledger: weights, three times the trainable bytes, and activations per token."""
    trained = trainable(method)
    frozen = (PARAMETERS - trained) * (2 if bf16 else 4)
    kept = TOKEN * rows * length * (0.3 if checkpointing else 1.0) * (0.6 if bf16 else 1.0)
    held = owners(
        {
            "weights": frozen + 4 * trained,
            "gradients": 4 * trained,
            "optimizer": 8 * trained,
            "activations": int(kept),
            "temporaries": int(kept * 0.15),
            "other": 16 * rows * length,
        }
    )
    return Ledger(kind="estimated", owners=held, moment="backward", rows=rows, length=length)


def measured_ledger(kind: str, step: int = 4, moment: Moment = "backward", share: float = 1.0) -> Ledger:
    """What a run of `tests.support.filled.filled` held in a step, or (`share`) when memory ran out."""
    trained = TRAINABLE[kind]
    known = {"weights": 4 * PARAMETERS, "gradients": 4 * trained, "optimizer": 8 * trained, "other": 60_000}
    left = PEAK[kind] * MIB - CONSTANT - sum(known.values())
    held = owners({**known, "activations": int(left * 0.85 * share), "temporaries": int(left * 0.15 * share)})  # type: ignore[dict-item]
    return Ledger(kind="measured", owners=held, moment=moment, operation="aten.mm", step=step, rows=16, length=14)


def attach_estimates(session: Session, study_id: int = 1) -> None:
    """Give each succeeded run of a study an estimate and a measured ledger; the first seed needs 0.6 % less memory and
    5 % less time than the others, from which the calibration of its device follows."""
    bell = SilentBell()
    for run in session.scalars(select(RunRow).where(RunRow.study_id == study_id, RunRow.status == "succeeded")):
        request = request_of(session, run)
        measured = measured_ledger(run.method_kind)
        ledger = measured.model_copy(update={"kind": "estimated", "step": None})
        phases = {"load": 90 * MIB, "train": ledger.total}
        flops = int(SECONDS[run.method_kind] * RATE)
        changes = {"ledger": ledger, "phases": phases, "train_flops": flops, "train_work": work(flops)}
        _attach(session, bell, run, request, estimate(request).model_copy(update=changes))
        run.precision, run.libraries = "fp32", "torch 2.9.0, transformers 5.1.0"
        result = run.result
        assert result is not None
        peak = int(PEAK[run.method_kind] * MIB * (1.0 if run.seed == 0 else 1.006))
        run.peak_bytes, run.train_seconds = peak, SECONDS[run.method_kind] * (1.0 if run.seed == 0 else 1.05)
        ledgers = [measured.model_copy(update={"step": 1}), measured]
        memory = result.memory.model_copy(update={"ledgers": ledgers, "peak_bytes": peak, "train_peak_bytes": peak})
        run.result_json = result.model_copy(update={"memory": memory}).model_dump(mode="json")
    session.flush()
    for run in session.scalars(select(RunRow).where(RunRow.study_id == study_id, RunRow.status == "succeeded")):
        _store(session, run)


def run_out_of_memory(session: Session, run: RunRow) -> None:
    """Give a run that `tests.support.filled.filled.fail` failed an estimate and the ledger at its out-of-memory
    error."""
    request = request_of(session, run)
    _attach(session, SilentBell(), run, request, estimate(request))
    _store(session, run)
    ledger = measured_ledger("full", step=3, moment="forward", share=0.7)
    run.failure_ledger_json, run.failure_requested_bytes = ledger.model_dump(mode="json"), 128 * 2**20
    run.failure_message = (
        "The device had no memory left (128 MiB more were requested; the peak before was 380 MiB above the start). "
        "Use a smaller batch with accumulation, a shorter max_length, or LoRA."
    )
    failure = run.failure
    assert isinstance(failure, Failure) and failure.ledger == ledger
    session.flush()


def request_of(session: Session, run: RunRow) -> EstimateRequest:
    """The request that a run's estimate answers, on a CPU without bfloat16."""
    model, dataset = base_models.by_id(session, run.base_model_id), datasets.by_id(session, run.dataset_id)
    assert model is not None and dataset is not None
    return run_request(run.spec, model, dataset)


def _attach(
    session: Session, bell: SilentBell, run: RunRow, request: EstimateRequest, result: ResourceEstimate
) -> None:
    row = estimates.wanted(session, bell, request)
    row.status, row.result_json = "ready", result.model_dump(mode="json")
    run.estimate_id, run.estimated_bytes = row.id, result.peak_bytes
    run.estimated_flops = float(result.train_flops)


def _store(session: Session, run: RunRow) -> None:
    """Store a run's estimate, calibrated on the other runs."""
    worker = workers.get(session, run.worker) if run.worker else estimates.likely_worker(session, run.spec)
    if worker is not None and run.estimate_id is not None:
        store(session, run, session.get_one(EstimateRow, run.estimate_id), worker, "submission")
