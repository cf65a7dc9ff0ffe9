"""Predictions files for runs that never trained: as a trainer writes them, consistent with the runs' scores."""

import hashlib
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.files.files import Files
from app.store.runs import evaluations
from app.store.runs import queries as runs
from app.store.tables import ArtifactRow, RunRow
from tests.support.filled.filled import LABELS

SUBJECTS = ("Shares of a brewer", "The minister", "A goalkeeper", "The singer's new album", "A maker of telephones")
ENDINGS = ("fall", "is asked twice about the budget", "wins in the last minute of a long and cold evening in the north")


def headline(item: int) -> str:
    """A short text that differs from item to item."""
    return f"{SUBJECTS[item % 5]} {ENDINGS[item % 3]}, number {item}"


def add_to_study(session: Session, files: Files, study_id: int) -> None:
    """Store a predictions file for every run with scores of a study of labelled texts."""
    members = runs.of_study(session, study_id)
    scores = evaluations.test_scores(session, [run.id for run in members])
    for run in members:
        if (run.id, "adapted") in scores:
            base, adapted = (scores[run.id, subject].scores for subject in ("base", "adapted"))
            store(session, files, run, labelled(base, adapted))


def labelled(base: np.ndarray, adapted: np.ndarray) -> pa.Table:
    """Items, predicted labels and probabilities that give these scores, [N] of 0 and 1."""
    items = range(len(adapted))
    labels = np.asarray([item % 5 for item in items])
    columns: dict[str, object] = {
        "item": [f"item-{item}" for item in items],
        "text": [headline(item) for item in items],
        "label": labels.tolist(),
    }
    for side, scores in (("base_", base), ("", adapted)):
        answers = np.where(scores > 0.5, labels, (labels + 1) % 5)
        confidence = 0.3 + 0.69 * np.random.default_rng(7).uniform(size=len(labels))
        probabilities = np.repeat((1 - confidence)[:, None] / 4, 5, axis=1)
        probabilities[np.arange(len(labels)), answers] = confidence
        columns |= {f"{side}prediction": answers.tolist(), f"{side}scores": probabilities.tolist()}
        columns[f"{side}accuracy"] = scores.tolist()
    return pa.table(columns).replace_schema_metadata({"labels": "\n".join(LABELS)})


def generated(base: np.ndarray, adapted: np.ndarray, metric: str) -> pa.Table:
    """The same for generated texts: the scores are the metric's values."""
    items = range(len(adapted))
    columns: dict[str, object] = {
        "item": [f"item-{item}" for item in items],
        "prompt": [f"Article {item}: {headline(item)}. Headline:" for item in items],
        "completion": [headline(item) for item in items],
    }
    for side, scores in (("base_", base), ("", adapted)):
        columns[f"{side}prediction"] = [
            headline(item)[: round(40 * score)] for item, score in zip(items, scores, strict=True)
        ]
        columns[f"{side}{metric}"] = scores.tolist()
        columns[f"{side}exact_match"] = (scores > 0.99).astype(float).tolist()
    return pa.table(columns).replace_schema_metadata({"labels": ""})


def store(session: Session, files: Files, run: RunRow, table: pa.Table) -> None:
    """Replace the run's predictions file by a table."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    store_bytes(session, files, run, buffer.getvalue())


def store_bytes(session: Session, files: Files, run: RunRow, content: bytes) -> None:
    """Replace the run's predictions file by any bytes."""
    artifact = session.scalars(
        select(ArtifactRow).where(ArtifactRow.run_id == run.id, ArtifactRow.kind == "predictions")
    ).one()
    artifact.sha256, artifact.bytes = hashlib.sha256(content).hexdigest(), len(content)
    with TemporaryDirectory() as folder:
        local = Path(folder) / "predictions.parquet"
        local.write_bytes(content)
        files.put(local, artifact.file)
