"""Does fine-tuning help, and was anything learned? Each criterion alone, and what keeps it from misfiring."""

from collections.abc import Sequence

import numpy as np
import pytest

from app.domain.comparison.baselines import BaselineResult, StoredBaseline, baseline_results
from app.domain.comparison.learning.learning import (
    Criterion,
    Helps,
    helps,
    learning,
    most_predicted,
    validation_progress,
)
from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.intervals import difference
from app.domain.data.baselines import Baseline, BaselineKind
from app.domain.runs.confusion import Answers, Confusion
from app.domain.runs.result import Evaluation, RunResult
from app.domain.runs.status import RunStatus
from tests.support.rows.results import result

N = 400


def baseline(kind: BaselineKind, right: int) -> StoredBaseline:
    scores = [1.0] * right + [0.0] * (N - right)
    values = {"metrics": {}, "items_hash": "h", "trained_rows": 1, "train_rows": 1, "seconds": 0.0}
    return StoredBaseline(kind, "ready", baseline=Baseline(kind=kind, scores={"accuracy": scores}, **values))


def compared(*known: StoredBaseline, right: int) -> tuple[BaselineResult, ...]:
    reference = np.zeros((2, N))
    reference[:, :right] = 1
    return baseline_results(known, "accuracy", reference, "h", 0.95)


def run(seed: int = 0, confusion: Confusion | None = None, scores: Sequence[float | None] = ()) -> RunOutcome:
    """A run with a confusion matrix and the validation scores of its evaluations; None: a loss only."""
    evaluations = [
        Evaluation(
            subject="adapted",
            split="validation",
            step=10 * place,
            epoch=place,
            n=50,
            loss=1.0 if score is not None else 2.0 - 0.1 * place,
            metric="accuracy",
            metrics={} if score is None else {"accuracy": score},
        )
        for place, score in enumerate(scores, start=1)
    ]
    changed: RunResult = result().model_copy(update={"confusion": confusion, "evaluations": evaluations})
    return RunOutcome(seed, "full", seed, RunStatus.SUCCEEDED, changed)


def matrix(predicted: dict[int, int], true: int = 0) -> Confusion:
    """Items by predicted label; half of them truly of label `true`."""
    answers = [Answers(true, label, items // 2) for label, items in predicted.items()]
    answers += [Answers(true + 1, label, items - items // 2) for label, items in predicted.items()]
    return Confusion(answers=answers)


def test_the_reference_must_beat_every_baseline() -> None:
    assert helps(compared(baseline("most-frequent", 100), baseline("tfidf", 200), right=300)) is Helps.YES
    assert helps(compared(baseline("most-frequent", 100), baseline("tfidf", 298), right=300)) is Helps.NO
    assert helps(compared(baseline("most-frequent", 310), baseline("tfidf", 100), right=300)) is Helps.NO


def test_a_baseline_that_failed_does_not_count_and_one_in_progress_leaves_the_answer_open() -> None:
    failed, working = StoredBaseline("embeddings", "failed", "why"), StoredBaseline("embeddings", "working")
    trivial = baseline("most-frequent", 100)
    assert helps(compared(trivial, failed, right=300)) is Helps.YES
    assert helps(compared(trivial, working, right=300)) is Helps.OPEN
    assert helps(compared(baseline("most-frequent", 300), working, right=300)) is Helps.NO
    assert helps(compared(failed, right=300)) is None
    assert helps(()) is None
    assert helps(baseline_results([trivial], "accuracy", None, None, 0.95)) is Helps.OPEN


def test_no_better_than_the_trivial_baseline_is_nothing_learned_but_no_better_than_tfidf_is_not() -> None:
    good = {"full": [run()]}
    trivial = learning(compared(baseline("most-frequent", 298), right=300), good, "full", None)
    assert trivial.criteria == (Criterion.TRIVIAL,) and trivial.nothing and trivial.closed
    tfidf = learning(compared(baseline("most-frequent", 100), baseline("tfidf", 298), right=300), good, "full", None)
    assert tfidf.criteria == () and not tfidf.nothing and tfidf.closed
    better = learning(compared(baseline("most-frequent", 100), right=300), good, "full", None)
    assert not better.closed


@pytest.mark.parametrize(("alike", "nothing"), [(95, True), (94, False)])
def test_one_label_for_95_percent_of_the_items_is_nothing_learned(alike: int, nothing: bool) -> None:
    runs = [run(0, matrix({0: alike, 1: 100 - alike})), run(1, matrix({0: alike, 1: 100 - alike}))]
    answer = learning((), {"full": runs}, "full", None)
    assert answer.nothing is nothing
    assert answer.predicted["full"].share == alike / 100 and answer.predicted["full"].same


def test_each_seed_may_choose_its_own_label_and_one_collapsed_seed_is_not_all() -> None:
    own = learning((), {"full": [run(0, matrix({0: 100})), run(1, matrix({1: 100}))]}, "full", None)
    assert own.criteria == (Criterion.ONE_LABEL,) and not own.predicted["full"].same
    mixed = learning((), {"full": [run(0, matrix({0: 100})), run(1, matrix({0: 60, 1: 40}))]}, "full", None)
    assert mixed.criteria == ()


def test_items_that_are_almost_all_alike_may_be_answered_alike() -> None:
    rare = Confusion(answers=[Answers(0, 0, 960), Answers(1, 0, 5), Answers(1, 1, 35)])
    assert learning((), {"full": [run(0, rare)]}, "full", None).criteria == ()


def test_another_arm_that_answers_alike_is_shown_and_decides_nothing() -> None:
    arms = {"full": [run(0, matrix({0: 50, 1: 50}))], "LoRA r=8": [run(1, matrix({0: 100}))]}
    answer = learning((), arms, "full", None)
    assert answer.criteria == () and answer.predicted["LoRA r=8"].one_label


def test_validation_that_never_improved_is_nothing_learned_unless_the_reference_is_known_to_be_better() -> None:
    stuck = {"full": [run(0, scores=(0.5, 0.5, 0.4)), run(1, scores=(0.5, 0.45))]}
    answer = learning((), stuck, "full", None)
    assert answer.criteria == (Criterion.NO_PROGRESS,) and (answer.improved, answer.validated) == (0, 2)
    assert learning(compared(baseline("most-frequent", 100), right=300), stuck, "full", None).criteria == ()
    base = difference(np.zeros((2, N)), np.ones((2, N)))
    assert learning((), stuck, "full", base).criteria == ()


def test_one_run_that_improved_is_enough_and_a_single_evaluation_says_nothing() -> None:
    some = {"full": [run(0, scores=(0.5, 0.5)), run(1, scores=(0.5, 0.6))]}
    assert learning((), some, "full", None).criteria == ()
    single = {"full": [run(0, scores=(0.5,))]}
    answer = learning((), single, "full", None)
    assert answer.criteria == () and answer.validated == 0


def test_without_a_metric_on_validation_the_loss_counts() -> None:
    progress = validation_progress(run(scores=(None, None, None)).result)  # type: ignore[arg-type]
    assert progress is not None and (progress.best, progress.step, progress.improved) == (3, 30, True)


def test_without_a_confusion_matrix_there_is_no_most_frequent_prediction() -> None:
    assert most_predicted([result()]) is None
