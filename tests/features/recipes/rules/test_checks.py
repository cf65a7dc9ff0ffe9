"""The statistics of recipes on scores whose answer is known."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import difference
from app.domain.comparison.study import StudyComparison, compare
from app.domain.methods import FullSpec, LoraSpec
from app.domain.runs.result import Forgetting as Measured
from app.domain.runs.status import RunStatus
from app.domain.studies.arms import ArmSpec
from app.domain.studies.next_step import Chosen
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.arm_tuning import ArmTuning
from app.domain.studies.tuning.search_space import Configuration, DimensionSpec, SearchSpace
from app.features.recipes.rules.checks import Estimate, Finding, estimated, findings
from app.features.recipes.rules.recipes import Check, Condition, Contrast, Forgetting, RateRatio, SeedNoise, Statistic
from tests.support.rows.results import result

ITEMS = 400
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
Matrix = NDArray[np.float64]


def scores(accuracy: float, seeds: int = 3, shift: int = 0) -> Matrix:
    """[S, N]: right on a share of the items; another seed is right on others at the end."""
    right = np.zeros((seeds, ITEMS))
    for seed in range(seeds):
        right[seed, np.roll(np.arange(ITEMS), seed + shift)[: round(accuracy * ITEMS)]] = 1
    return right


def study(
    arms: dict[str, Matrix], forgetting: dict[str, list[float]] | None = None, clusters: Clusters | None = None
) -> StudyComparison:
    """A study whose arms have these scores; an arm named by a rate has that rate."""
    spec = StudySpec(
        name="s",
        base_model="m",
        dataset="d",
        arms=[
            ArmSpec(
                name=title,
                method=FullSpec() if title.startswith("full") else LoraSpec(r=place + 1),
                learning_rate=float(title.split()[1]) if " " in title else 1e-3,
            )
            for place, title in enumerate(arms)
        ],
        seeds=list(range(max(len(matrix) for matrix in arms.values()))),
    )
    runs = []
    for title, matrix in arms.items():
        for seed, row in enumerate(matrix):
            own = result(float(row.mean()))
            if forgetting:
                change = Measured(dataset="t", tokens=9, base_loss=1.0, adapted_loss=1.0 + forgetting[title][seed])
                own = own.model_copy(update={"forgetting": change})
            runs.append(
                RunOutcome(
                    run_id=len(runs), arm=title, seed=seed, status=RunStatus.SUCCEEDED, result=own, scores=row,
                    items_hash="h", clusters=clusters,
                )
            )  # fmt: skip
    return compare(spec, runs)


def value(statistic: Statistic, comparison: StudyComparison, confidence: float = 0.95) -> Estimate:
    return estimated(statistic, {arm.title: arm for arm in comparison.arms}, confidence)


def contrast(**weights: float) -> Contrast:
    return Contrast(kind="contrast", weights=weights)


def finding(statistic: Statistic, comparison: StudyComparison) -> Finding:
    check = Check(name="x", statistic=statistic, confirmed=Condition(below=0), refuted=Condition(above=0))
    recipe: Any = type("Recipe", (), {"checks": [check]})
    [only] = findings(recipe, comparison)
    return only


def test_a_contrast_of_two_arms_is_their_difference() -> None:
    a, b = scores(0.8), scores(0.9, shift=1)
    found, expected = value(contrast(a=1, b=-1), study({"a": a, "b": b})), difference(a, b)
    assert (found.value, found.low, found.high) == pytest.approx(
        (100 * expected.delta, 100 * expected.low, 100 * expected.high)
    )
    assert found.value == pytest.approx(-10)


def test_a_contrast_of_four_arms_is_the_change_of_a_difference() -> None:
    arms = {"a": scores(0.7), "b": scores(0.9), "c": scores(0.8), "d": scores(0.85)}
    found = value(contrast(a=1, b=-1, c=-1, d=1), study(arms))
    assert found.value == pytest.approx(-20 + 5)
    assert found.low < found.value < found.high


def test_more_confidence_gives_a_wider_interval() -> None:
    comparison = study({"a": scores(0.8), "b": scores(0.9, shift=5)})
    narrow, wide = (value(contrast(a=1, b=-1), comparison, level) for level in (0.95, 0.99))
    assert wide.low < narrow.low and narrow.high < wide.high


def test_one_seed_decides_nothing() -> None:
    only = finding(contrast(a=1, b=-1), study({"a": scores(0.5, 1), "b": scores(0.9, 1)}))
    assert only.estimate is None and only.interval is None
    assert "Fewer than two seeds" in (only.why or "")


def test_only_seeds_that_every_arm_has_are_combined() -> None:
    both = study({"a": scores(0.8, 4), "b": scores(0.9, 2)})
    assert value(contrast(a=1, b=-1), both) == value(
        contrast(a=1, b=-1), study({"a": scores(0.8, 2), "b": scores(0.9, 2)})
    )


@pytest.mark.parametrize(("best", "decides"), [(0, False), (1, True), (2, False)])
def test_a_contrast_decides_nothing_where_tuning_chose_an_edge(best: int, decides: bool) -> None:
    comparison = study({"a": scores(0.8), "b": scores(0.9, shift=5)})
    space = SearchSpace(learning_rate=DimensionSpec(values=(1e-4, 3e-4, 9e-4)))
    step = Chosen(Configuration(learning_rate=(1e-4, 3e-4, 9e-4)[best]))
    arms = {arm.title: arm for arm in comparison.arms}
    arms["b"] = replace(arms["b"], tuning=ArmTuning(space, "trials", 3, (), step, graded=False))
    untuned = finding(contrast(a=1, b=-1), comparison)
    only = finding(contrast(a=1, b=-1), replace(comparison, arms=tuple(arms.values())))
    assert only.estimate == untuned.estimate and only.estimate is not None, "the numbers stay"
    assert (only.interval is not None) is decides
    if not decides:
        assert "edge of those tried (b: learning_rate)" in str(only.why)


def test_forgetting_decides_nothing_where_tuning_chose_an_edge() -> None:
    comparison = study({n: scores(0.8) for n in "ab"}, {"a": [0.1, 0.2, 0.3], "b": [0.5, 0.7, 0.9]})
    statistic = Forgetting(kind="forgetting", arm="a", other="b")
    assert finding(statistic, comparison).interval
    space = SearchSpace(learning_rate=DimensionSpec(values=(1e-4, 3e-4, 9e-4)))
    step = Chosen(Configuration(learning_rate=9e-4))
    first, second = comparison.arms
    tuned = replace(first, tuning=ArmTuning(space, "trials", 3, (), step, graded=False))
    only = finding(statistic, replace(comparison, arms=(tuned, second)))
    assert only.estimate and only.interval is None and "a: learning_rate" in str(only.why)


def test_forgetting_is_compared_by_welchs_t() -> None:
    changes = {"a": [0.1, 0.2, 0.3], "b": [0.5, 0.7, 0.9]}
    found = value(Forgetting(kind="forgetting", arm="a", other="b"), study({n: scores(0.8) for n in "ab"}, changes))
    # scipy.stats.ttest_ind([.1, .2, .3], [.5, .7, .9], equal_var=False).confidence_interval()
    assert (found.value, found.low, found.high) == pytest.approx((-0.5, -0.915540, -0.084460), abs=1e-5)


@pytest.mark.slow
def test_the_ratio_is_that_of_the_peaks() -> None:
    full = {f"full {rate:g}": scores(0.9 - 0.1 * abs(place - 1)) for place, rate in enumerate(RATES)}
    lora = {f"lora {rate:g}": scores(0.9 - 0.1 * abs(place - 3)) for place, rate in enumerate(RATES)}
    ratio = RateRatio(kind="rate_ratio", numerator=list(lora), denominator=list(full))
    found = value(ratio, study(full | lora))
    assert found.value == pytest.approx(10, rel=0.1)
    assert found.low <= found.value <= found.high
    assert found == value(ratio, study(full | lora)), "the bootstrap has a fixed seed"


def test_copies_of_items_make_no_ratio_more_certain() -> None:
    rng = np.random.default_rng(3)
    levels = {"full": (0.5, 0.7, 0.8, 0.7, 0.5), "lora": (0.4, 0.5, 0.7, 0.8, 0.7)}
    once = {
        f"{arm} {rate:g}": (rng.random((3, 60)) < level).astype(np.float64)
        for arm in levels
        for rate, level in zip(RATES, levels[arm], strict=True)
    }
    titles = {arm: [title for title in once if title.startswith(arm)] for arm in levels}
    ratio = RateRatio(kind="rate_ratio", numerator=titles["lora"], denominator=titles["full"])
    copied = {title: np.repeat(matrix, 4, axis=1) for title, matrix in once.items()}

    def width(arms: dict[str, Matrix], clusters: Clusters | None = None) -> float:
        found = finding(ratio, study(arms, clusters=clusters)).estimate
        assert found is not None
        return float(np.log(found.high / found.low))

    assert width(copied, Clusters(np.repeat(np.arange(60), 4))) == pytest.approx(width(once), rel=0.01)
    assert width(copied) < 0.95 * width(once)
    halves = [Clusters(np.random.default_rng(seed).permutation(60) % 2) for seed in range(10)]
    assert np.mean([width(once, half) for half in halves]) > 0.95 * width(once), "few groups make no ratio more certain"
    only = finding(ratio, study(once, clusters=Clusters(np.zeros(60, dtype=np.int64))))
    assert only.interval is None and "one group" in (only.why or "")


def test_a_peak_at_the_edge_decides_nothing_but_is_reported() -> None:
    full = {f"full {rate:g}": scores(0.9 - 0.1 * place) for place, rate in enumerate(RATES)}
    lora = {f"lora {rate:g}": scores(0.9 - 0.1 * abs(place - 3)) for place, rate in enumerate(RATES)}
    only = finding(RateRatio(kind="rate_ratio", numerator=list(lora), denominator=list(full)), study(full | lora))
    assert only.estimate and only.estimate.value > 1
    assert only.interval is None and "edge" in (only.why or "")


def test_noise_of_seeds_is_pooled_over_arms() -> None:
    """Standard deviations 0.5 and 1.5 points, 3 seeds each: pooled 1.118, times 1.96 · √2."""
    arms = {"a": np.stack([scores(x, 1)[0] for x in (0.795, 0.8, 0.805)])}
    arms["b"] = np.stack([scores(x, 1)[0] for x in (0.685, 0.7, 0.715)])
    found = value(SeedNoise(kind="seed_noise", over=["a", "b"]), study(arms))
    assert found.value == pytest.approx(1.96 * np.sqrt(2) * np.sqrt((0.25 + 2.25) / 2), rel=1e-3)
    # χ² with 4 degrees of freedom: 0.4844 and 11.1433
    assert found.low == pytest.approx(found.value * np.sqrt(4 / 11.1433), rel=1e-3)
    assert found.high == pytest.approx(found.value * np.sqrt(4 / 0.4844), rel=1e-3)


def test_an_interim_look_raises_the_confidence_of_every_check() -> None:
    comparison = study({"a": scores(0.8), "b": scores(0.9, shift=5)})
    looked = StudyComparison(**vars(comparison) | {"confidence": 0.99})
    before, after = (finding(contrast(a=1, b=-1), one).estimate for one in (comparison, looked))
    assert before and after and after.low < before.low


def test_where_an_end_of_the_interval_rests_on_the_edge_the_ratio_decides_nothing() -> None:
    """The best LoRA rate lies inside, but by so little that many samples put it at the edge."""
    full = {f"full {rate:g}": scores(0.9 - 0.1 * abs(place - 2)) for place, rate in enumerate(RATES)}
    levels = (0.6, 0.7, 0.8, 0.87, 0.865)
    lora = {f"lora {rate:g}": scores(levels[place], shift=40 * place) for place, rate in enumerate(RATES)}
    only = finding(RateRatio(kind="rate_ratio", numerator=list(lora), denominator=list(full)), study(full | lora))
    assert only.estimate and only.estimate.value < 30, "the best rate itself is not at the edge"
    assert only.interval is None and "of 2000 samples a best rate is at the edge" in (only.why or "")


def test_seeds_that_are_resampled_have_their_whole_variance() -> None:
    """The peak moves between two seeds: the interval covers more than either."""
    full = {f"full {rate:g}": scores(0.9 - 0.1 * abs(place - 2), 2) for place, rate in enumerate(RATES)}
    lora = {}
    for place, rate in enumerate(RATES):
        rows = [scores(0.9 - 0.1 * abs(place - peak), 1)[0] for peak in (1.75, 2.25)]
        lora[f"lora {rate:g}"] = np.stack(rows)
    found = value(RateRatio(kind="rate_ratio", numerator=list(lora), denominator=list(full)), study(full | lora))
    each = [10 ** (0.5 * move) for move in (-0.25, 0.25)]
    assert found.low < each[0] and found.high > each[1]


def test_a_check_decides_only_with_every_seed_of_its_arms() -> None:
    comparison = study({"a": scores(0.8, 4), "b": scores(0.9, 4, shift=5)})
    check = Check(name="x", statistic=contrast(a=1, b=-1), confirmed=Condition(below=0), refuted=Condition(above=0))
    recipe: Any = SimpleNamespace(checks=[check], study=SimpleNamespace(seeds=[0, 1, 2, 3]))
    [whole] = findings(recipe, comparison, ended=True)
    assert whole.interval and whole.interval[1] < 0
    recipe.study.seeds = [0, 1, 2, 3, 4, 5]
    [part] = findings(recipe, comparison, ended=True)
    assert part.estimate == whole.estimate and part.interval is None
    assert part.why == "Only 4 of 6 seeds have a result for every arm"
    [running] = findings(recipe, comparison)
    assert running.interval, "until the study has ended it is provisional"
