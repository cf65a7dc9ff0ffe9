"""What the reports of an attempt change: columns of the run, rows of other tables, and lines of its log."""

from typing import Any

from sqlalchemy.orm import Session

from app.domain.runs.job import (
    DownloadReport,
    EvaluationReport,
    LogReport,
    PhaseReport,
    Report,
    StepsReport,
    WeightDeltasReport,
)
from app.services.runs.log import PHASES, numbers, weight_deltas_summary
from app.store.database.messages import as_stored
from app.store.runs import evaluations, events, weight_deltas


def changed_columns(item: Report) -> dict[str, Any]:
    """The columns of the run that a report changes."""
    match item:
        case PhaseReport(total_steps=None):
            return {"phase": item.phase.value}
        case PhaseReport():
            return {"phase": item.phase.value, "total_steps": item.total_steps}
        case DownloadReport():
            return {"downloaded_bytes": item.done_bytes, "download_bytes": item.total_bytes}
        case StepsReport() if item.steps:
            last = item.steps[-1]
            return {
                "step": last.step,
                "train_loss": last.loss,
                "train_seconds": last.seconds,
                "memory_bytes": last.memory_bytes,
            }
        case EvaluationReport(evaluation=evaluation) if evaluation.split == "validation":
            return {"validation_score": evaluation.score}
        case _:
            return {}


def keep_rows(session: Session, run_id: int, item: Report) -> None:
    """Write a report's rows in other tables, and its line in the log."""
    match item:
        case PhaseReport():
            events.add(session, run_id, "phase", PHASES[item.phase])
        case EvaluationReport(evaluation=evaluation):
            evaluations.add(session, run_id, evaluation, item.items, item.scores)
            model = "base model" if evaluation.subject == "base" else f"step {evaluation.step}"
            line = f"{model}: {evaluation.split} {numbers(evaluation)}, {evaluation.n} items"
            events.add(session, run_id, "evaluation", line)
        case LogReport():
            events.add(session, run_id, "log", as_stored(item.message))
        case WeightDeltasReport():
            weight_deltas.add(session, run_id, item.weight_deltas)
            if line := weight_deltas_summary(item.weight_deltas):
                events.add(session, run_id, "log", line)
        case _:
            pass
