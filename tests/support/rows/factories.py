"""Studies in any state and with any verdict, in a database: `seed_study` says what came out of each run.

Runs, costs and step metrics are those of `tests.support.filled.filled`; nothing here was trained.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from app.domain.comparison.study import StudyComparison
from app.domain.failures import FailureCode
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.samples import samples as sample
from app.services.studies import studies as study_service
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.tables import Base, BaseModelRow, EvaluationRow, RunRow
from tests.support.checks.remembered_rows import remembered_rows
from tests.support.filled import filled

FULL = ArmSpec(method=FullSpec(), learning_rate=1e-4)
LORA = ArmSpec(method=LoraSpec(r=8, lora_alpha=16, target_modules=["query", "value"]), learning_rate=2e-3)
HEAD = ArmSpec(method=HeadOnlySpec(), learning_rate=3e-2)
ARMS = (FULL, LORA, HEAD)

ALL = [(arm.title, seed) for arm in ARMS for seed in (0, 1, 2)]
"""The runs of the usual study."""
MANY = (
    FULL,
    LORA,
    ArmSpec(method=LoraSpec(r=64, target_modules="all-linear")),
    ArmSpec(method=LoraSpec(r=64, use_dora=True), name="DoRA with a name that is longer than any chart has room for"),
    HEAD,
    ArmSpec(method=LoraSpec(r=16, use_rslora=True)),
)
"""A second, a third and a fourth arm of one family, and a long name."""
STATES: dict[str, dict[str, Any]] = {
    "finished": {},
    "one arm": {"arms": (LORA,)},
    "one seed": {"seeds": (0,)},
    "many arms": {"arms": MANY},
    "reference failed": {"failed": {("full", seed): FailureCode.OUT_OF_MEMORY for seed in (0, 1, 2)}},
    "all failed": {"failed": dict.fromkeys(ALL, FailureCode.DIVERGED)},
    "running": {"queued": ALL[4:], "running": ALL[3:4]},
    "nothing yet": {"queued": ALL},
    "cancelled": {"cancelled": ALL},
}
"""Ways in which a study may stand, as options of `seed_study`."""

Which = Collection[tuple[str, int]]
"""Runs, by arm and seed."""


def empty_database() -> Session:
    """A session on an SQLite database in memory, with the sample's model and data."""
    engine = create_engine("sqlite://")
    engine.raw_connection().driver_connection.deserialize(_registered())  # type: ignore[union-attr]
    return Session(engine)


@cache
def _registered() -> bytes:
    """Such a database, made once in a process."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        filled.register(session)
        session.commit()
    return bytes(engine.raw_connection().driver_connection.serialize())  # type: ignore[union-attr]


def seed_study(
    session: Session,
    *,
    arms: Sequence[ArmSpec] = ARMS,
    seeds: Sequence[int] = (0, 1, 2),
    margin: float = 2.0,
    reference: str = "",
    accuracy: Mapping[str, float] | None = None,
    seed_sd: float = 0.003,
    luck: float = 0.2,
    failed: Mapping[tuple[str, int], FailureCode] | None = None,
    cancelled: Which = (),
    queued: Which = (),
    running: Which = (),
) -> int:
    """A study whose runs succeeded but for those named; its id.

    `accuracy` by arm replaces the usual one; `seed_sd` is what a seed changes of it (in turns up and down, so that a
    mean is what was asked for). `luck` is how far two runs disagree on which items are hard: 0 not at all.
    """
    if session.scalar(select(BaseModelRow.id).limit(1)) is None:
        filled.register(session)
    chances: dict[str, Any] = {"accuracy": accuracy, "seed_sd": seed_sd, "luck": luck}
    states: dict[str, Any] = {"failed": failed, "cancelled": cancelled, "queued": queued, "running": running}
    spec = StudySpec(
        name=sample.STUDY_NAME,
        base_model=sample.SAMPLE_MODEL,
        dataset=sample.SAMPLE_DATASET,
        arms=list(arms),
        seeds=list(seeds),
        margin_points=margin,
        reference=reference,
        training=filled.three_arms().training,
    )
    if running:  # since a moment ago
        return _add(session, spec, **chances, **states)
    model, dataset = base_models.by_name(session, spec.base_model), datasets.by_name(session, spec.dataset)
    assert model is not None and dataset is not None
    key = repr((spec, chances, states, model.id, dataset.id))
    return remembered_rows(session, key, lambda: _add(session, spec, **chances, **states))


def _add(
    session: Session,
    spec: StudySpec,
    *,
    accuracy: Mapping[str, float] | None,
    seed_sd: float,
    luck: float,
    failed: Mapping[tuple[str, int], FailureCode] | None,
    cancelled: Which,
    queued: Which,
    running: Which,
) -> int:
    """The rows of such a study; its id."""
    runs = filled.add_study(session, spec, hours_ago=3.0)
    for run in runs:
        which = (run.arm, run.seed)
        if which in (failed or {}):
            filled.fail(session, run, (failed or {})[which])
        elif which in cancelled:
            run.status, run.finished_at = "cancelled", run.queued_at
        elif which in running:
            filled.start(session, run)
        elif which not in queued:
            filled.succeed(session, run)
            _follow_each_other(run, runs[0].id)
            usual = filled.ACCURACY[run.method_kind]
            swing = seed_sd * (0.0, 1.2, -1.2)[spec.seeds.index(run.seed) % 3]
            _score(session, run, (accuracy or {}).get(run.arm, usual) + swing, luck)
    session.flush()
    assert runs[0].study_id is not None
    return runs[0].study_id


def weighed(**options: Any) -> StudyComparison:
    """The comparison of a study made by `seed_study`."""
    with empty_database() as session:
        return study_service.comparison(session, seed_study(session, **options))


def plain(text: str) -> str:
    """With spaces that break."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def _follow_each_other(run: RunRow, first: int) -> None:
    """One run after the other on one worker, so that times compare."""
    assert run.started_at and run.finished_at
    span = run.finished_at - run.started_at
    run.started_at = run.queued_at + timedelta(seconds=70.0 * (run.id - first))
    run.finished_at = run.started_at + span


def _score(session: Session, run: RunRow, accuracy: float, luck: float) -> None:
    """Right and wrong answers with just this accuracy; which items are hard is the same for all runs, but for luck."""
    row = session.scalars(
        select(EvaluationRow).where(
            EvaluationRow.run_id == run.id, EvaluationRow.split == "test", EvaluationRow.subject == "adapted"
        )
    ).one()
    hard = np.random.default_rng(0).uniform(size=row.n)
    own = np.random.default_rng(run.id).uniform(size=row.n)
    order = np.argsort((1 - luck) * hard + luck * own)
    scores = np.zeros(row.n, dtype="<f4")
    scores[order[: round(accuracy * row.n)]] = 1
    row.scores, row.score = scores.tobytes(), float(scores.mean())
    run.score = row.score
