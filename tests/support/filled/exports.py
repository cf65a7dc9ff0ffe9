"""Exports of a run in every state; nothing was measured."""

from datetime import timedelta

from sqlalchemy.orm import Session

from app.domain.comparison.fairness.export_gate import ExportGate, GateOutcome, TextDifference, WeightCheck
from app.domain.models.exports import ExportedFile, ExportFormat
from app.features.shipping.tables import ModelExportRow
from app.store.tables import now

SIZES = {
    ExportFormat.ADAPTER: 1_363_968,
    ExportFormat.MERGED_FLOAT32: 90_868_376,
    ExportFormat.MERGED_BFLOAT16: 45_445_448,
    ExportFormat.ONNX_INT8: 24_012_800,
}


def gate(outcome: GateOutcome, delta: float, half: float, *, wrong: int = 0, text: bool = False) -> ExportGate:
    """A result of the gate on 646 items."""
    return ExportGate(
        outcome=outcome,
        loaded_with="transformers 5.24.0",
        metric="accuracy",
        items=646,
        margin=0.02,
        confidence=0.95,
        score=0.896 + delta,
        run_score=0.896,
        delta=delta,
        low=delta - half,
        high=delta + half,
        same=646 - round(-delta * 646),
        first_difference=TextDifference(item="3f2a", token=4, run=" Vienna", export=" Venice") if text else None,
        weights=WeightCheck(tensors=103, wrong=["bert.query.weight", "bert.key.weight"][:wrong], largest_error=0.98),
        seconds=12.5,
    )


def add(session: Session, run_id: int, form: ExportFormat, status: str, result: ExportGate | None = None) -> int:
    """An export of a run; its id."""
    size = SIZES[form]
    files = [
        ExportedFile(name=name, bytes=count, sha256="0" * 64)
        for name, count in (("model.safetensors", size), ("config.json", 812), ("tokenizer.json", 466_247))
    ]
    row = ModelExportRow(
        run_id=run_id,
        format=form.value,
        status=status,
        epoch=1,
        attempts=1,
        progress=0.62 if status == "running" else 0.0,
        predicted_bytes=size,
        message="The export process was killed by signal 9." if status == "failed" else "",
        files_json=[file.model_dump() for file in files] if result else [],
        gate_json=result.model_dump(mode="json") if result else None,
        started_at=now() - timedelta(minutes=1),
        seen_at=now(),
        ended_at=now() if result else None,
    )
    session.add(row)
    session.flush()
    return row.id
