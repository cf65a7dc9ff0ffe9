"""Scores of a judge with ratings by people, and preferences between two answers."""

from dataclasses import replace

import numpy as np
import pytest

from app.domain.comparison.statistics.intervals import difference
from app.domain.comparison.statistics.judged import Judged, JudgedArm, JudgedRun, compare_judged
from app.domain.comparison.statistics.preference import BlindItem, Preferred, Rating, first_is_left, ordered, preference
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.data.dataset import item_name
from app.domain.data.item_names import copy_name

MARGIN = 0.05


def judged(scores: dict[int, list[int | None]]) -> Judged:
    """Of runs 1 (reference) and more; every answer is another text."""
    items = [f"item-{n}" for n in range(len(scores[1]))]
    runs = [JudgedRun(run=run, scores=given, texts=[run] * len(items)) for run, given in scores.items()]
    return Judged(items=items, runs=runs, answers=0, asked=0, unscored=0, examples=[])


def compared(
    result: Judged, ratings: dict[tuple[int, int], list[Rating]] | None = None, arms: dict[str, list[int]] | None = None
) -> JudgedArm:
    arms = arms or {"full": [1], "lora": [2]}
    return {arm.title: arm for arm in compare_judged(result, arms, "full", MARGIN, ratings or {})}["lora"]


def test_scores_have_the_interval_of_any_metric() -> None:
    chance = np.random.default_rng(0)
    scores = {run: chance.integers(1, 6, 50).tolist() for run in (1, 2, 3, 4)}
    arm = compared(judged(scores), arms={"full": [1, 3], "lora": [2, 4]})
    x = {run: (np.array(given) - 1) / 4 for run, given in scores.items()}
    expected = difference(np.array([x[2], x[4]]), np.array([x[1], x[3]]))
    assert arm.alone == arm.corrected and arm.error is None and arm.left_out == 0
    assert (arm.low, arm.high) == pytest.approx((expected.low, expected.high)) and arm.verdict is VerdictKind.UNDECIDED


def test_ratings_move_the_difference_by_the_least_that_agrees_with_them() -> None:
    """f of the four items is 0.25, 0.25, 0, −0.25; people prefer the arm's answer, the reference's, the arm's, none."""
    result = judged({1: [3, 3, 3, 3], 2: [4, 4, 3, 2]})
    given = [Preferred.SECOND, Preferred.FIRST, Preferred.SECOND, Preferred.TIE]
    ratings = {(1, 2): [Rating(f"item-{n}", preferred) for n, preferred in enumerate(given)]}
    arm = compared(result, ratings)
    e = np.array([0, -0.5, 0.25, 0.25])
    f = np.array([0.25, 0.25, 0, -0.25])
    assert arm.error is not None and (arm.error.items, arm.error.agreed) == (4, 1)
    assert arm.error.mean == pytest.approx(e.mean())
    assert arm.error.variance == pytest.approx(e.var(ddof=1) / 4 + 2 * max(0, np.cov(f, e)[0, 1]) / 4)
    assert arm.alone is not None and arm.corrected is not None
    assert arm.corrected.delta == pytest.approx(arm.alone.delta + e.mean())
    assert arm.corrected.variance == pytest.approx(arm.alone.variance + arm.error.variance)
    turned = {(1, 2): [Rating(r.item, r.preferred) for r in ratings[1, 2]]}
    reverse = {a.title: a for a in compare_judged(result, {"full": [2], "lora": [1]}, "full", MARGIN, turned)}["lora"]
    assert reverse.corrected is not None and reverse.corrected.delta == pytest.approx(-arm.corrected.delta)
    assert compared(result, {(1, 2): ratings[1, 2][:1]}).error is None, "a single rating shows no variance"
    assert compared(result, {(3, 4): ratings[1, 2]}).error is None, "of other runs"


def test_an_item_without_a_score_may_be_anything_and_widens_its_arm() -> None:
    scores: dict[int, list[int | None]] = {1: [3] * 10, 2: [3, 4] * 5}
    whole = compared(judged(scores))
    scores[2] = [3, 4] * 4 + [3, None]
    arm = compared(judged(scores))
    assert arm.left_out == pytest.approx(0.1) and arm.alone is not None and arm.alone.items == 9
    assert arm.low == pytest.approx(0.9 * arm.alone.low - 0.1) and arm.high == pytest.approx(0.9 * arm.alone.high + 0.1)
    assert arm.low < whole.low and arm.high > whole.high
    nothing = compared(judged({1: [3] * 4, 2: [None, None, None, 3]}))
    assert nothing.corrected is None and nothing.verdict is VerdictKind.NONE
    arm = compared(judged({1: [3] * 50, 2: [4] * 40 + [None] * 10})).score
    assert arm is not None and arm.mean == pytest.approx(0.75)
    assert arm.low <= 0.8 * 0.75 and arm.high >= 0.8 * 0.75 + 0.2, "with 0 and with 1 in the place of the others"
    few = compared(judged({1: [3] * 4, 2: [1, 5, None, None]})).score
    assert few is not None and (few.low, few.high) == (0, 1)


def test_raters_who_contradict_each_other_do_not_both_agree_with_the_judge() -> None:
    result = judged({1: [3, 3, 3], 2: [3, 4, 4]})
    given = [(0, Preferred.FIRST), (0, Preferred.SECOND), (1, Preferred.SECOND), (2, Preferred.SECOND)]
    arm = compared(result, {(1, 2): [Rating(f"item-{n}", preferred) for n, preferred in given]})
    assert arm.error is not None and arm.error.mean == 0, "their errors cancel out"
    assert (arm.error.rated, arm.error.agreed) == (3, 2)


def test_people_agree_on_items_that_they_rated_not_on_equal_answers() -> None:
    result = judged({1: [3] * 9, 2: [3] * 6 + [4] * 3})
    alike = result.runs[0].model_copy(update={"texts": [2] * 6 + [1] * 3})
    result = result.model_copy(update={"runs": [alike, result.runs[1]]})
    ratings = [Rating(f"item-{n}", Preferred.SECOND) for n in (6, 7, 8)]
    error = compared(result, {(1, 2): ratings}).error
    assert error is not None and (error.rated, error.agreed) == (3, 3) and error.items > 3
    assert compared(result, {(1, 2): ratings[:1]}).error is None, "a single rating"


def test_a_difference_that_items_without_a_score_could_undo_is_no_step_of_holms_procedure() -> None:
    """The first arm differs on the items with a score alone, so the second one keeps the confidence of two arms."""
    seeds = {1: [3] * 40, 2: [3] * 40}
    first: list[int | None] = [4] * 28 + [None] * 12
    scores = seeds | {3: first, 4: first, 5: [3, 4] * 20, 6: [3, 4] * 20}
    arms = {"full": [1, 2], "first": [3, 4], "second": [5, 6]}
    found = {arm.title: arm for arm in compare_judged(judged(scores), arms, "full", MARGIN, {})}
    assert found["first"].implied is VerdictKind.UNDECIDED
    assert found["second"].corrected is not None
    assert found["second"].corrected.confidence == pytest.approx(0.975)


def test_one_seed_hints() -> None:
    arm = compared(judged({1: [2, 3] * 40, 2: [4, 5] * 40}))
    assert (arm.verdict, arm.implied) == (VerdictKind.HINT, VerdictKind.ENOUGH)


def test_with_ratings_the_interval_covers_what_people_would_say_although_the_judge_is_biased() -> None:
    """The judge adds a step to half of the arm's answers. People rate a sample of 60 of 300 items without error."""
    chance, truth, alone, corrected = np.random.default_rng(1), _expected(), 0, 0
    for _study in range(200):
        reference = chance.integers(2, 5, 300)
        arm = reference + chance.integers(-1, 2, 300)
        seen = arm + (chance.random(300) < 0.5)
        clipped = np.clip(seen, 1, 5)
        result = judged({1: reference.tolist(), 2: clipped.tolist()})
        words = {1: Preferred.SECOND, -1: Preferred.FIRST, 0: Preferred.TIE}
        picked = chance.choice(300, 60, replace=False)
        ratings = {(1, 2): [Rating(f"item-{n}", words[int(np.sign(arm[n] - reference[n]))]) for n in picked]}
        found = compared(result, ratings)
        assert found.alone is not None and found.corrected is not None
        alone += found.alone.low <= truth <= found.alone.high
        corrected += found.corrected.low <= truth <= found.corrected.high
    assert alone < 20 and corrected >= 180


def _expected() -> float:
    """The mean of h in the population that the test draws from, computed over every combination."""
    values = []
    for reference in (2, 3, 4):
        for change in (-1, 0, 1):
            for added in (0, 1):
                f = (min(max(reference + change + added, 1), 5) - reference) / 4
                values.append(max(f, 0.25) if change > 0 else min(f, -0.25) if change < 0 else 0.0)
    return float(np.mean(values))


PAIR = (3, 7)
FIRST, SECOND, TIE = Preferred.FIRST, Preferred.SECOND, Preferred.TIE


def items(number: int, alike: int = 0) -> list[BlindItem]:
    """Items in their random order; every so many have two equal answers."""
    made = [BlindItem(f"i{n}", "p", "a", " a " if alike and n % alike == 0 else "b") for n in range(number)]
    return ordered(made, PAIR)


def rated(order: list[BlindItem], number: int, *preferred: Preferred) -> list[Rating]:
    """Ratings of the first items whose answers differ, in turn."""
    differing = [item.item for item in order if not item.alike][:number]
    return [Rating(item, preferred[n % len(preferred)]) for n, item in enumerate(differing)]


def test_every_rater_sees_the_same_order_and_sides_of_their_own() -> None:
    order = items(200)
    assert ordered(order[::-1], PAIR) == order != ordered(order, (3, 8))
    sides = [[first_is_left(PAIR, item.item, rater) for item in order] for rater in (1, 2, None)]
    assert all(70 < sum(side) < 130 for side in sides) and sides[0] != sides[1] != sides[2]


@pytest.mark.parametrize(
    ("preferred", "verdict", "delta"),
    [
        ((FIRST,), VerdictKind.BETTER, 1.0),
        ((SECOND,), VerdictKind.WORSE, -1.0),
        ((TIE,), VerdictKind.WITHIN, 0.0),
        ((FIRST, SECOND, TIE), VerdictKind.UNDECIDED, 0.0),
        ((FIRST, FIRST, SECOND), VerdictKind.BETTER, 1 / 3),
    ],
)
def test_interval_and_margin_decide(preferred: tuple[Preferred, ...], verdict: VerdictKind, delta: float) -> None:
    order = items(300)
    found = preference(order, rated(order, 300, *preferred), 0.02)
    assert found.difference is not None
    assert (found.items, found.rated, found.ratings) == (300, 300, 300)
    assert found.difference.delta == pytest.approx(delta) and found.verdict is verdict


def test_equal_answers_among_the_rated_items_count_as_ties_and_later_items_do_not() -> None:
    order = items(400, alike=2)
    found = preference(order, rated(order, 50, FIRST), 0.02)
    assert found.rated == 50 and 70 < found.items < 140
    assert found.difference is not None
    assert found.difference.delta == pytest.approx(50 / found.items)


def test_raters_are_averaged_and_without_them_there_is_no_interval() -> None:
    order = items(100)
    found = preference(order, [*rated(order, 100, FIRST), *rated(order, 100, SECOND)], 0.02)
    assert found.difference is not None
    assert (found.ratings, found.first, found.second, found.difference.delta) == (200, 100, 100, 0.0)
    assert found.verdict is VerdictKind.WITHIN
    order = items(10, alike=1)
    assert preference(order, [], 0.02).verdict is VerdictKind.NONE
    one = items(10)
    assert preference(one, rated(one, 1, FIRST), 0.02).difference is None


def test_ratings_of_one_input_are_one_cluster() -> None:
    once = [BlindItem(item_name(f"i{n}"), "p", "a", "b") for n in range(40)]
    copied = [replace(item, item=copy_name(item.item, copy)) for item in once for copy in range(3)]

    def of(blind: list[BlindItem]) -> tuple[float, float]:
        ratings = [Rating(item.item, FIRST if int(item.item[:4], 16) % 3 else SECOND) for item in blind]
        found = preference(blind, ratings, 0.02).difference
        assert found is not None
        return found.low, found.high

    assert of(copied) == pytest.approx(of(once))
    alone = [Rating(item.item, FIRST) for item in copied[:3]]
    assert preference(copied, alone, 0.02).difference is None, "three copies of one item"
