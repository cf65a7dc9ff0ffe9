"""The two questions of a study's verdict as JSON, and why nothing was learned."""

from typing import Literal, Self

from app.domain.comparison.learning.causes import Cause, CauseKind, Causes
from app.domain.comparison.learning.learning import Criterion, Helps
from app.domain.comparison.study import StudyComparison
from app.web.api.answer import Answer
from app.words.verdict.causes import cause_text, cause_title, remedy_label, ruled_out_text
from app.words.verdict.learning import enough_text, helps_label, helps_text, label_name


class MostPredictedOut(Answer):
    """An arm's most frequent prediction on the test items."""

    label: str
    share: float
    """Share of the test items, mean over the seeds' own most frequent predictions."""
    same: bool
    """All seeds predict the same label most."""


class LossTrendOut(Answer):
    """The training loss over the second half of a run, nats."""

    kind: Literal["falling", "flat", "rising"]
    half_start: float
    """The fitted line at the middle of training."""
    half_end: float
    """The same at the last step."""


class ProgressOut(Answer):
    """A run's evaluations on the validation split."""

    evaluations: int
    best: int
    """The first that nothing later surpassed, from 1."""
    step: int
    improved: bool
    """A later evaluation surpassed the first."""


class RunLearningOut(Answer):
    """What a run learned, as far as it shows."""

    predicted: str
    """Its most frequent prediction on the test items; empty without a confusion matrix."""
    share: float | None
    """Share of the test items."""
    trend: LossTrendOut | None
    """Whether the training loss was still falling; None with too few steps."""
    progress: ProgressOut | None
    """None with fewer than two evaluations."""


class CauseOut(Answer):
    """Why nothing was learned, as far as it was measured."""

    kind: CauseKind
    likelihood: Literal["likely", "possible"]
    title: str
    sentence: str
    remedy: str
    """What the prepared study changes; empty where nothing would help."""
    prepared: str
    """Address of the form of that study."""

    @classmethod
    def of(cls, study_id: int, study: StudyComparison, cause: Cause) -> Self:
        return cls.from_object(
            cause,
            likelihood="likely" if cause.likely else "possible",
            title=cause_title(cause),
            sentence=cause_text(cause, study),
            remedy=remedy_label(cause, study),
            prepared=f"/studies/new?from_study={study_id}&remedy={cause.remedy}" if cause.remedy else "",
        )


class LearningOut(Answer):
    """Does fine-tuning help at all? The reference arm must be significantly better than every baseline."""

    helps: Helps | None
    """None without a baseline to compare with."""
    label: str
    """`yes`, `no`, `not shown`, `open`."""
    sentence: str
    nothing_learned: bool
    criteria: list[Criterion]
    arms_tested: bool
    """False after a no: no arm has a verdict."""
    enough: str
    """What the arms' verdicts rest on."""
    most_predicted: dict[str, MostPredictedOut]
    """By arm; only classifiers have it."""
    improved: int
    """Runs of the reference that improved on the validation split after their first evaluation, of `validated`."""
    validated: int
    causes: list[CauseOut]
    """Where nothing was learned: the most likely first."""
    ruled_out: list[str]
    """Causes that were measured and excluded."""

    @classmethod
    def of(cls, study_id: int, study: StudyComparison, causes: Causes) -> Self:
        learning = study.learning
        return cls.from_object(
            learning,
            label=helps_label(study),
            sentence=helps_text(study),
            nothing_learned=learning.nothing,
            criteria=list(learning.criteria),
            arms_tested=not learning.closed,
            enough=enough_text(study),
            most_predicted={
                arm: MostPredictedOut.from_object(known, label=label_name(study, known.label))
                for arm, known in learning.predicted.items()
            },
            causes=[CauseOut.of(study_id, study, cause) for cause in causes.found],
            ruled_out=[ruled_out_text(cause) for cause in causes.ruled_out],
        )
