"""The formats in which a run can be exported, with their size and time, or why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from sqlalchemy.orm import Session

from app.domain.errors import FieldError
from app.domain.models.exports import ExportFormat, disk_bytes, merged_bytes, refusal
from app.features.shipping.queries import exports as model_exports
from app.services.models.trained import saved_weights
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.tables import RunRow


@dataclass(frozen=True)
class Offer:
    """A format of a run's export."""

    format: ExportFormat
    weights_bytes: int | None
    """Size of its weights; None where it is refused."""
    refused: FieldError | None
    seconds: float | None = None
    """How long it will take, with the gate; None where nothing is known."""
    disk_bytes: int | None = None
    """On the worker's disk meanwhile; None where it is refused."""


def offers(session: Session, run: RunRow) -> list[Offer]:
    """Every format, with its size or why it is refused; none for a run that has saved no weights."""
    weights = saved_weights(session, run)
    if not weights or run.imported:
        return []
    model = base_models.by_id(session, run.base_model_id)
    dataset = datasets.by_id(session, run.dataset_id)
    if model is None or model.facts is None or dataset is None:
        return []
    facts = model.facts.task_model(run.spec.task, len(dataset.facts.labels))
    whole = any(file.kind == "model" for file in weights)
    offered, saved = [], sum(file.bytes for file in weights)
    measured = model_exports.measured_seconds(session, run)
    for form in ExportFormat:
        refused = refusal(form, run.spec.method, facts, whole=whole)
        size = merged_bytes(facts, form) if form.merged else saved
        if refused:
            offered.append(Offer(form, None, refused))
        else:
            seconds = _predicted_seconds(run, form, measured)
            offered.append(Offer(form, size, None, seconds, disk_bytes(form, size, saved)))
    return offered


def _predicted_seconds(run: RunRow, form: ExportFormat, measured: Mapping[str, Sequence[float]]) -> float | None:
    """The median of earlier exports of this base model on this data: in this format, or in any. Without one, from the
    clocks of the run if a CPU trained it: an export starts a process, loads the base model to merge it and again to
    compare, and evaluates once. None for a run on a GPU, whose clocks say nothing of the worker's CPU."""
    earlier = measured.get(form.value) or [seconds for each in measured.values() for seconds in each]
    if earlier:
        return median(earlier)
    if run.result is None or run.result.environment.device != "cpu":
        return None
    clocks = run.result.clocks
    return clocks.start + 2 * clocks.load + clocks.baseline
