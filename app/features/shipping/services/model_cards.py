"""What a model card says of an export, from the store."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from app.domain.comparison.fairness.export_gate import ExportGate
from app.domain.comparison.statistics.intervals import ScoreInterval, score_interval
from app.domain.errors import Conflict
from app.domain.messages import _
from app.domain.runs.result import RunResult
from app.features.shipping.services.exports import margin
from app.features.shipping.services.work import EXPORTS
from app.features.shipping.tables import ModelExportRow
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.runs import evaluations
from app.store.runs import queries as runs
from app.store.tables import BaseModelRow, DatasetRow, RunRow


@dataclass(frozen=True)
class CardFacts:
    """What was measured of an export, and of what it was made."""

    run: RunRow
    export: ModelExportRow
    model: BaseModelRow
    dataset: DatasetRow
    result: RunResult
    gate: ExportGate
    margin: float
    score: ScoreInterval
    """Of the run's arm, over its seeds and the test items; of the run alone if it has no others."""
    seeds: list[int]


def of_export(session: Session, export_id: int) -> CardFacts:
    """From the store. Raises NotFound, and Conflict before the export has succeeded."""
    row = EXPORTS.get(session, export_id)
    run = runs.get(session, row.run_id)
    scored = {first.id: first for first in [*runs.scored_seeds(session, run), run]}
    found = evaluations.test_scores(session, list(scored))
    own = found.get((run.id, "adapted"))
    if row.gate is None or run.result is None or own is None:
        raise Conflict(
            _(
                "Export %(id)s is %(status)s, so it has no model card: nothing was scored.",
                id=row.id,
                status=row.status,
            )
        )
    model, dataset = base_models.by_id(session, run.base_model_id), datasets.by_id(session, run.dataset_id)
    assert model is not None and dataset is not None  # noqa: S101 foreign keys hold them
    by_seed = {run.seed: own.scores}
    for other in scored.values():
        theirs = found.get((other.id, "adapted"))
        if theirs is not None and theirs.items_hash == own.items_hash:
            by_seed.setdefault(other.seed, theirs.scores)
    return CardFacts(
        run=run,
        export=row,
        model=model,
        dataset=dataset,
        result=run.result,
        gate=row.gate,
        margin=margin(session, run),
        score=score_interval(np.asarray(list(by_seed.values()), dtype=np.float64), clusters=own.clusters),
        seeds=sorted(by_seed),
    )
