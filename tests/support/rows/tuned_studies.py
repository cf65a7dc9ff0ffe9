"""Studies with tuned learning rates, in a database: trials end with the given scores. Nothing is trained."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.failures import FailureCode
from app.domain.runs.result import Evaluation
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.samples import samples as sample
from app.services.studies import studies as study_service
from app.services.studies import tuning
from app.store.runs import artifacts, evaluations
from app.store.runs import queries as runs
from app.store.tables import RunRow
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import filled
from tests.support.rows.factories import ARMS

TrialScores = Mapping[str, Sequence[float | None]]
"""By arm: the validation score of each of its learning rates, smallest rate first; None diverged."""
DEFAULT_SCORES: TrialScores = {
    "full": (0.85, 0.89, 0.87),
    "LoRA r=8": (0.83, 0.86, 0.9),
    "head only": (0.81, 0.82, 0.8),
}
VALIDATION = 150


def add_tuned_study(
    session: Session,
    scores: TrialScores = DEFAULT_SCORES,
    *,
    arms: Sequence[ArmSpec] = ARMS,
    how: str | Mapping[str, object] = "grid",
    finals: bool = True,
    margin_points: float = 2,
) -> int:
    """A study on the sample's model and data whose trials of every round have ended; with `finals` its runs too."""
    spec = StudySpec(
        name="Headlines, rates tuned",
        base_model=sample.SAMPLE_MODEL,
        dataset=sample.SAMPLE_DATASET,
        arms=list(arms),
        seeds=[0, 1, 2],
        margin_points=margin_points,
        training=filled.three_arms().training,
        tuning=how,  # type: ignore[arg-type]  # as in a request
    )
    study = study_service.submit(session, SilentBell(), spec)
    rounds = len(spec.tuning.rounds)
    for place in range(rounds):
        for trial in runs.trials_of(session, study.id):
            if trial.trial_round == place:
                grid = spec.space(spec.arm(trial.arm)).grid(len(scores[trial.arm]))
                end_trial(session, trial, scores[trial.arm][grid.index(trial.configuration)])
        tuning.advance(session, SilentBell(), study.id)
    if finals:
        for run in session.scalars(select(RunRow).where(RunRow.study_id == study.id, RunRow.trial_round.is_(None))):
            filled.succeed(session, run)
    session.flush()
    return study.id


def end_trial(session: Session, trial: RunRow, score: float | None) -> None:
    """End a trial with a score on the validation split; None: it diverged."""
    if score is None:
        filled.fail(session, trial, FailureCode.DIVERGED)
        return
    filled.succeed(session, trial)
    result = trial.result
    assert result is not None
    evaluation = Evaluation(
        subject="adapted", split="validation", step=result.best_step, epoch=3.0, n=VALIDATION, loss=1.5 - score,
        metric="accuracy", metrics={"accuracy": score, "macro_f1": score},
    )  # fmt: skip
    evaluations.clear(session, trial.id)
    artifacts.clear(session, trial.id)
    evaluations.add(session, trial.id, evaluation, [], [])
    trial.result_json = result.model_copy(update={"evaluations": [evaluation], "artifacts": []}).model_dump(mode="json")
    trial.score = trial.base_score = trial.loss = None
    trial.validation_score = score
    session.flush()
