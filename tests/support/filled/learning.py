"""A study in which nothing was learned, for the pages: two arms that answer "positive" to almost every drug review.

Accuracies, number of items, seeds and steps are those of a real run of this kind; nothing here was trained. Goes on
from `tests.support.filled.filled.fill`.
"""

from datetime import timedelta

import numpy as np
from sqlalchemy.orm import Session

from app.domain.data.dataset import DatasetFacts
from app.domain.methods import FullSpec, LoraSpec
from app.domain.models.base_model import SAMPLE_MODEL
from app.domain.runs.confusion import Answers, Confusion
from app.domain.runs.result import STEP_DTYPE, DataSeen, Evaluation, Steps
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.store.runs import evaluations, steps
from app.store.tables import DatasetRow, RunRow
from tests.support.filled import filled

DATASET = "drug-reviews"
LABELS = ["negative", "neutral", "positive"]
TRUE = (96, 35, 248)
"""Test items of each label."""
ITEMS = sum(TRUE)
ITEM_NAMES = [f"review-{i}" for i in range(ITEMS)]
STEPS = 68
ANSWERED = {"most-frequent": 248, "tfidf": 278}
"""Test items that a baseline answers correctly."""
FIRST_LOSS = {"full": 0.98, "lora": 0.99}


def study() -> StudySpec:
    """Short training on few rows."""
    return StudySpec(
        name="Drug reviews",
        base_model=SAMPLE_MODEL,
        dataset=DATASET,
        arms=[ArmSpec(method=FullSpec()), ArmSpec(method=LoraSpec(target_modules="all-linear"))],
        seeds=[0, 1],
        margin_points=2,
        training=TrainingBudget(num_train_epochs=2, max_length=128),
    )


def add(session: Session) -> int:
    """The dataset, its baselines and the finished study, whose id it returns."""
    facts = DatasetFacts(
        labels=LABELS,
        counts={"train": 540, "validation": 60, "test": ITEMS},
        label_counts=dict(zip(LABELS, [246, 91, 642], strict=True)),
        content_hash="d7c61a02" * 8,
    )
    row = DatasetRow(
        name=DATASET,
        title="Drug reviews",
        content_hash=facts.content_hash,
        file="datasets/drugs.parquet",
        facts_json=facts.model_dump(),
    )
    session.add(row)
    session.flush()
    spec = study()
    scores = {kind: _scores(right, wrong=12 if kind == "tfidf" else 0) for kind, right in ANSWERED.items()}
    why = "The base model could not be loaded (no such file)."
    filled.store_baselines(session, spec, scores, items=ITEM_NAMES, rows=540, why=why)
    runs = filled.add_study(session, spec, hours_ago=3.0)
    for run in runs:
        _succeed(session, run)
    return runs[0].study_id or 0


def _scores(right: int, wrong: int = 0) -> np.ndarray:
    """Items of "positive" stand last: right from the end, but for some of them."""
    scores = np.zeros(ITEMS)
    scores[ITEMS - right - wrong :] = 1
    scores[ITEMS - wrong :] = 0
    return scores


def _succeed(session: Session, run: RunRow) -> None:
    """A run as `filled` has it, with what it learned replaced."""
    filled.succeed(session, run)
    evaluations.clear(session, run.id)
    steps.clear(session, run.id)
    steps.append(session, run.id, _steps(run))
    missed = 0 if run.method_kind == "full" else 2 + run.seed
    known = []
    for step, score, loss in ((34, 0.65, 0.88), (STEPS, 0.65, 0.84)):
        known.append(_evaluation("adapted", "validation", step, score, loss, 60))
    test = _evaluation("adapted", "test", 34, (248 - missed) / ITEMS, 0.85, ITEMS)
    base = _evaluation("base", "test", 0, 0.4, 1.12, ITEMS)
    for evaluation in known:
        evaluations.add(session, run.id, evaluation, [], [])
    evaluations.add(session, run.id, base, ITEM_NAMES, _scores(152 + 60 * run.seed).tolist())
    evaluations.add(session, run.id, test, ITEM_NAMES, _scores(248 - missed, missed).tolist())
    result = run.result
    assert result
    wrong = [Answers(label, 2, TRUE[label]) for label in (0, 1)]
    positive = [Answers(2, 0, missed), Answers(2, 2, TRUE[2] - missed)]
    run.score, run.loss, run.base_score, run.step, run.total_steps = test.score, test.loss, 0.4, STEPS, STEPS
    changed = {
        "steps": STEPS,
        "best_step": 34,
        "confusion": Confusion(answers=[*wrong, *(answer for answer in positive if answer.items)]),
        "evaluations": [base, *known, test],
        "data": DataSeen(
            splits="a" * 64,
            order=f"{run.seed}" * 64,
            train_rows=540,
            truncated_rows=221,
            long_tokens=246,
            contradictory_rows=3,
        ),
    }
    run.result_json = result.model_copy(update=changed).model_dump(mode="json")
    run.finished_at = run.started_at + timedelta(seconds=90) if run.started_at else None


def _evaluation(subject: str, split: str, step: int, score: float, loss: float, n: int) -> Evaluation:
    return Evaluation.model_validate(
        {
            "subject": subject,
            "split": split,
            "step": step,
            "epoch": step / 34,
            "n": n,
            "loss": loss,
            "metric": "accuracy",
            "metrics": {"accuracy": score, "macro_f1": 0.26},
        }
    )


def _steps(run: RunRow) -> Steps:
    number = np.arange(1, STEPS + 1)
    made = np.zeros(STEPS, dtype=STEP_DTYPE)
    made["step"], made["epoch"] = number, number / 34
    noise = np.random.default_rng(run.id).normal(0, 0.03, STEPS)
    made["loss"] = FIRST_LOSS[run.method_kind] - 0.18 * number / STEPS + noise
    made["learning_rate"] = run.learning_rate * (1 - number / STEPS)
    made["grad_norm"], made["tokens"] = 1.2, number * 1700
    made["seconds"] = number * filled.SECONDS[run.method_kind] / STEPS
    made["memory_bytes"] = filled.PEAK[run.method_kind] * filled.MIB
    return made
