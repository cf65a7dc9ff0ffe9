"""Judgements of a study of a language model for the pages: one succeeded, one failed, one is under way; none was made.
Goes on from `tests.support.filled.language.fill_language`."""

from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from app.domain.comparison.statistics.judged import HIGHEST, LOWEST, Judged, JudgedRun, Unscored
from app.features.judging.rules import RUBRIC
from app.features.judging.services import blind
from app.features.judging.tables import BlindRatingRow, JudgementRow
from app.store.tables import RunRow, now

ITEMS = 120
QUALITY = {"full": 3.6, "lora": 3.5, "qlora": 3.3, "prompt": 2.2}
"""The mean score of each method's answers."""


def add_judgements(session: Session, study_id: int) -> None:
    """With ratings of people for the first two arms, and two answers without a score."""
    runs = blind.candidates(session, study_id)
    items = [f"item-{n}" for n in range(ITEMS)]
    judged = Judged(
        items=items,
        runs=[_scores(run) for run in runs],
        answers=ITEMS * len(runs),
        asked=ITEMS * len(runs),
        unscored=2,
        examples=[
            Unscored(item="item-0", run=runs[0].id, said="I would give this answer a score of 4 out of 5."),
            Unscored(item="item-1", run=runs[0].id, said="(empty)"),
        ],
    )
    shared: dict[str, Any] = {
        "study_id": study_id,
        "url": "http://127.0.0.1:8001/v1",
        "model": "judge",
        "rubric": RUBRIC,
        "sample": 200,
    }
    why = "127.0.0.1 knows no model other, or its API is elsewhere (HTTP 404): Not Found. Check the model's name."
    session.add_all(
        [
            JudgementRow(**shared, status="succeeded", progress=1.0, result_json=judged.model_dump(), ended_at=now()),
            JudgementRow(**shared | {"model": "other"}, status="failed", message=why, ended_at=now()),
            JudgementRow(**shared, status="running", progress=0.4, seen_at=now(), rung_at=now(), epoch=1, attempts=1),
        ]
    )
    other = next(run for run in runs if run.arm != runs[0].arm)
    first, second = sorted((runs[0].id, other.id))
    session.add_all(
        BlindRatingRow(first_id=first, second_id=second, item=item, preferred=("first", "second", "tie")[n % 3])
        for n, item in enumerate(items[:60])
    )


def _scores(run: RunRow) -> JudgedRun:
    chance = np.random.default_rng(run.id)
    scores = np.clip(np.rint(chance.normal(QUALITY[run.method_kind], 0.9, ITEMS)), LOWEST, HIGHEST).astype(int)
    given: list[int | None] = scores.tolist()
    if run.seed == 0 and run.method_kind == "full":
        given[:2] = [None, None]
    return JudgedRun(run=run.id, scores=given, texts=[run.id] * ITEMS)
