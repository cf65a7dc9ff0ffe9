"""What a study's verdict asks first: does fine-tuning help at all? And its worst answer: nothing was learned.

    helps: yes     the reference arm is significantly better than every baseline
           no      it is not significantly better than one of them
           open    a baseline is still being computed, or the reference has no result
           None    the study has no baseline to compare with

The arms' own question, whether a cheaper one is enough, is tested only after a yes. That is a fixed sequence of two
tests (Maurer, Hothorn & Lehmacher 1995): the second is reached only if the first rejects, so both have the full level,
and the chance that either makes a false claim stays where it was.

Nothing was learned, which takes precedence, where one of these holds for the reference arm:

    trivial        it is not significantly better than a trivial baseline (`BaselineFacts.trivial`)
    one_label      it predicts one label for at least 95 % of the test items, mean over its seeds, and that label is
                   true for fewer than 95 %
    no_progress    no run of it improved on the validation split after its first evaluation, and it is not known to be
                   better than a trivial baseline, or than the base model before training: a model can learn all it will
                   before its first evaluation
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from app.domain.comparison.baselines import BaselineResult, unfinished
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.intervals import Difference
from app.domain.runs.result import RunResult

ONE_LABEL = 0.95
"""Share of the test items."""


class Helps(StrEnum):
    YES = "yes"
    NO = "no"
    OPEN = "open"


class Criterion(StrEnum):
    """Why nothing was learned."""

    TRIVIAL = "trivial"
    ONE_LABEL = "one_label"
    NO_PROGRESS = "no_progress"


@dataclass(frozen=True)
class MostPredicted:
    """An arm's most frequent prediction on the test items."""

    label: int
    """Its place in the dataset's labels."""
    share: float
    """Share of the test items, mean over the seeds' own most frequent predictions."""
    true_share: float
    """Share of the test items that have this label."""
    same: bool
    """All seeds predict the same label most."""

    @property
    def one_label(self) -> bool:
        """It answers almost every item alike, and that is not how the items are."""
        return self.share >= ONE_LABEL and self.true_share < ONE_LABEL


@dataclass(frozen=True)
class Progress:
    """Whether a run improved on the validation split after its first evaluation."""

    evaluations: int
    best: int
    """The first evaluation that nothing later surpassed, from 1."""
    step: int

    @property
    def improved(self) -> bool:
        """A later evaluation surpassed the first."""
        return self.best > 1


@dataclass(frozen=True)
class Learning:
    """The first question of a verdict."""

    helps: Helps | None = None
    criteria: tuple[Criterion, ...] = ()
    """Why nothing was learned; empty where something was, or where it is not known."""
    predicted: Mapping[str, MostPredicted] = field(default_factory=dict)
    """By arm; only classifiers have it."""
    improved: int = 0
    """Runs of the reference that improved on validation after their first evaluation."""
    validated: int = 0
    """The number of runs with two evaluations at least."""

    @property
    def nothing(self) -> bool:
        return bool(self.criteria)

    @property
    def closed(self) -> bool:
        """The arms' own question is not tested."""
        return self.nothing or self.helps is Helps.NO


def learning(
    baselines: Sequence[BaselineResult],
    by_arm: Mapping[str, Sequence[RunOutcome]],
    reference: str,
    base_difference: Difference | None,
) -> Learning:
    """From the baselines and the runs with a result, by arm; `base_difference` is the base model's to the reference."""
    known = {title: answer for title, runs in by_arm.items() if (answer := most_predicted(_results(runs)))}
    progress = [way for result in _results(by_arm.get(reference, ())) if (way := validation_progress(result))]
    trivial = [baseline for baseline in baselines if baseline.facts.trivial and baseline.difference is not None]
    better = any(baseline.beaten for baseline in trivial) or (base_difference is not None and base_difference.high < 0)
    holds = {
        Criterion.TRIVIAL: not all(baseline.beaten for baseline in trivial),
        Criterion.ONE_LABEL: reference in known and known[reference].one_label,
        Criterion.NO_PROGRESS: bool(progress) and not any(way.improved for way in progress) and not better,
    }
    return Learning(
        helps=helps(baselines),
        criteria=tuple(criterion for criterion, does in holds.items() if does),
        predicted=known,
        improved=sum(way.improved for way in progress),
        validated=len(progress),
    )


def helps(baselines: Sequence[BaselineResult]) -> Helps | None:
    """The intersection-union test over all baselines that could be computed."""
    compared = [baseline for baseline in baselines if baseline.difference is not None]
    if any(not baseline.beaten for baseline in compared):
        return Helps.NO
    if unfinished(baselines):
        return Helps.OPEN
    if compared:
        return Helps.YES
    return Helps.OPEN if any(baseline.score is not None for baseline in baselines) else None


def most_predicted(results: Sequence[RunResult]) -> MostPredicted | None:
    """Over the runs of an arm; None without a confusion matrix."""
    matrices = [result.confusion for result in results if result.confusion and result.confusion.answers]
    if not matrices:
        return None
    answers = [matrix.most_predicted for matrix in matrices]
    labels = [label for label, _share in answers]
    label = max(labels, key=labels.count)
    true = [matrix.labels[label] / matrix.items for matrix in matrices]
    return MostPredicted(
        label=label,
        share=sum(share for _label, share in answers) / len(answers),
        true_share=sum(true) / len(true),
        same=len(set(labels)) == 1,
    )


def validation_progress(result: RunResult) -> Progress | None:
    """By the metric of the verdict, or by the loss where the metric is not computed on the validation split; None with
    fewer than two evaluations."""
    known = [e for e in result.evaluations if e.subject == "adapted" and e.split == "validation"]
    if len(known) < 2:
        return None
    values = [e.score if e.score is not None else -e.loss for e in known]
    best = values.index(max(values))
    return Progress(len(known), best + 1, known[best].step)


def _results(runs: Sequence[RunOutcome]) -> list[RunResult]:
    return [run.result for run in runs if run.result is not None]
