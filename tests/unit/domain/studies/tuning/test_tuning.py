"""Tuning: equal budgets, what comes next, and that a failed trial holds nothing up."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.runs.status import RunStatus
from app.domain.runs.training import TrainingArguments
from app.domain.studies.arms import ArmSpec
from app.domain.studies.next_step import AllFailed, Chosen, Step, Try, Wait
from app.domain.studies.next_step import next_step as next_of
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.arm_tuning import ArmTuning, Rival, trying
from app.domain.studies.tuning.search_space import Configuration, DimensionSpec, SearchSpace
from app.domain.studies.tuning.trials import Trial, reached, tried
from app.domain.studies.tuning.tuning import (
    FIRST_SEED,
    GridTuning,
    HalvingTuning,
    NoTuning,
    Round,
    runs_worth,
    trials_owed,
)
from app.web.http.errors import field_errors
from tests.support.rows.results import evaluation, result

ARMS = (ArmSpec(method=FullSpec(), learning_rate=1e-4), ArmSpec(method=LoraSpec(r=8)), ArmSpec(method=HeadOnlySpec()))
RATES = (1e-4, 3e-4, 9e-4)


def spec(**values: Any) -> StudySpec:
    usual = {"name": "s", "base_model": "m", "dataset": "d", "arms": list(ARMS), "tuning": "grid"}
    return StudySpec.model_validate(usual | values)


def at(*rates: float) -> tuple[Configuration, ...]:
    return tuple(Configuration(learning_rate=rate) for rate in rates)


def over(rates: tuple[float, ...]) -> SearchSpace:
    return SearchSpace(learning_rate=DimensionSpec(values=rates))


def rates_of(study: StudySpec, arm: ArmSpec) -> tuple[float, ...]:
    return tuple(one.learning_rate or 0 for one in study.space(arm).grid(3))


def next_step(tuning: GridTuning | HalvingTuning, rates: tuple[float, ...], trials: list[Trial]) -> Step:
    return next_of(tuning, over(rates), trials)


def chosen(rate: float) -> Chosen:
    return Chosen(*at(rate))


def trial(rate: float, score: float | None = 0.5, *, loss: float | None = 1.0, **values: Any) -> Trial:
    usual = {"run_id": 1, "arm": "a", "round": 0, "seed": FIRST_SEED, "status": RunStatus.SUCCEEDED}
    return Trial(configuration=Configuration(learning_rate=rate), rate=rate, score=score, loss=loss, **(usual | values))


def lost(rate: float, status: RunStatus = RunStatus.FAILED, **values: Any) -> Trial:
    return trial(rate, None, loss=None, status=status, **values)


def mistakes(**values: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(ValidationError) as error:
        spec(**values)
    return [(f.path, f.message, f.remedy) for f in field_errors(error.value.errors())]


def test_tuning_is_off_unless_requested_and_its_name_means_the_defaults() -> None:
    plain = StudySpec(name="s", base_model="m", dataset="d", arms=list(ARMS))
    assert plain.tuning == NoTuning()
    assert plain.first_trials() == []
    assert [plain.space(arm) for arm in ARMS] == [SearchSpace()] * len(ARMS)
    assert spec(tuning="grid").tuning == GridTuning(rates=3, factor=3, seeds=1)
    assert spec(tuning={"kind": "halving"}).tuning == HalvingTuning(rates=6, eta=3)
    assert spec(tuning="none").tuning == NoTuning()


def test_a_grid_lies_around_the_usual_rate() -> None:
    study = spec()
    for arm in ARMS:
        low, middle, high = rates_of(study, arm)
        assert middle == arm.rate
        assert (high / middle, middle / low) == pytest.approx((3, 3), rel=0.01)
    assert GridTuning(rates=4, factor=4).around(1e-3) == (0.000125, 0.0005, 0.002, 0.008)


def test_every_arm_tries_as_many_rates_on_the_same_seeds_for_as_long() -> None:
    study = spec(tuning={"kind": "grid", "rates": 5, "seeds": 2}, seeds=[0, 1])
    first = study.first_trials()
    assert len(first) == 3 * trials_owed(study.tuning, study.space(ARMS[0])) == 30
    by_arm = {arm.title: [run for run in first if run.arm == arm.title] for arm in ARMS}
    shapes = {
        tuple(sorted((r.seed, r.spec.training.num_train_epochs, r.trial_round) for r in runs))
        for runs in by_arm.values()
    }
    assert len(shapes) == 1
    assert {run.seed for run in first} == {FIRST_SEED, FIRST_SEED + 1}


def test_trials_have_their_own_seeds_and_measure_no_forgetting() -> None:
    study = spec(seeds=[FIRST_SEED, 1])
    assert {run.seed for run in study.first_trials()} == {FIRST_SEED + 1}
    study = spec(task="causal-lm", general_text="texts")
    assert {run.spec.general_text for run in study.first_trials()} == {None}
    assert {run.spec.general_text for run in study.owed()} == {"texts"}


def test_halving_gives_the_best_rates_a_longer_round() -> None:
    assert HalvingTuning(rates=9, eta=3).rounds == (Round(9, 1 / 3), Round(3, 1.0))
    assert HalvingTuning(rates=16, eta=2).rounds == (Round(16, 1 / 8), Round(8, 1 / 4), Round(4, 1 / 2), Round(2, 1.0))
    assert runs_worth(HalvingTuning(rates=16, eta=2), SearchSpace()) == 8.0  # as much in each of the four rounds
    assert runs_worth(GridTuning(rates=3, seeds=2), over(RATES)) == 6.0
    assert runs_worth(NoTuning(), SearchSpace()) == 0


def test_a_shorter_round_has_a_share_of_the_epochs_or_of_the_steps() -> None:
    halving = {"kind": "halving", "rates": 4, "eta": 2}
    by_epochs = spec(tuning=halving, training={"num_train_epochs": 3, "warmup_steps": 0.1})
    assert {r.spec.training.num_train_epochs for r in by_epochs.trials(ARMS[0], 0, at(*RATES))} == {1.5}
    assert {r.spec.training.warmup_steps for r in by_epochs.trials(ARMS[0], 0, at(*RATES))} == {0.1}
    by_steps = spec(tuning=halving, training={"max_steps": 101, "warmup_steps": 20})
    short, whole = by_steps.trials(ARMS[0], 0, at(*RATES))[0], by_steps.trials(ARMS[0], 1, at(*RATES))[0]
    assert (short.spec.training.max_steps, short.spec.training.warmup_steps) == (51, 10)
    assert whole.spec.training == TrainingArguments(
        **by_steps.training.model_dump(), learning_rate=RATES[0], seed=FIRST_SEED
    )


def test_an_arm_may_name_its_rates_if_it_names_as_many_as_the_others_try() -> None:
    own = ArmSpec(method=FullSpec(), learning_rates=[5e-5, 1e-5, 2e-5])
    study = spec(arms=[own, ARMS[1]])
    assert rates_of(study, own) == (1e-5, 2e-5, 5e-5)
    [(path, message, remedy)] = mistakes(arms=[{"method": {"kind": "full"}, "learning_rates": [1e-5, 2e-5]}])
    assert path == "arms.0.search.learning_rate"
    assert message == "The arm 'full' tries 2 configurations, but every arm gets the same tuning budget of 3"
    assert remedy == "List 3, or set tuning.rates to 2 for all arms"


@pytest.mark.parametrize(
    ("values", "path", "says"),
    [
        ({"tuning": "none", "arms": [{"method": {"kind": "full"}, "learning_rates": [1e-5, 2e-5]}]},
         "arms.0.search", "the study tunes none"),
        ({"arms": [{"method": {"kind": "full"}, "learning_rates": [1e-5, 1e-5, 2e-5]}]},
         "arms.0.search.learning_rate.values.1", "is given twice"),
        ({"arms": [{"method": {"kind": "full"}, "learning_rate": 9.0}]},
         "arms.0.learning_rate", "would try is 27"),
        ({"tuning": "bayes"}, "tuning", "There is no tuning 'bayes'"),
        ({"tuning": {"kind": "grid", "rates": 1}}, "tuning.rates", "Must be 2 or more"),
        ({"tuning": {"kind": "halving", "rates": 5, "eta": 3}}, "tuning.rates", "leave no choice for a second round"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_tuning_is_said_at_its_field(values: dict[str, Any], path: str, says: str) -> None:
    [(found, message, remedy)] = mistakes(**values)
    assert found == path
    assert remedy or message.startswith("Must ")  # which says what to do itself
    assert says in message


def test_every_rate_is_tried_before_one_is_chosen() -> None:
    assert next_step(GridTuning(), RATES, []) == Try(0, at(*RATES))
    assert next_step(GridTuning(), RATES, [trial(RATES[1])]) == Try(0, at(RATES[0], RATES[2]))
    seen = [trial(RATES[0]), trial(RATES[1]), lost(RATES[2], RunStatus.RUNNING)]
    assert next_step(GridTuning(), RATES, seen) == Wait()


def test_the_best_score_on_validation_is_chosen_then_the_lowest_loss_then_the_smallest_rate() -> None:
    by_score = [trial(RATES[0], 0.8), trial(RATES[1], 0.9), trial(RATES[2], 0.7)]
    assert next_step(GridTuning(), RATES, by_score) == chosen(RATES[1])
    by_loss = [trial(RATES[0], 0.9, loss=0.4), trial(RATES[1], 0.9, loss=0.3), trial(RATES[2], 0.7)]
    assert next_step(GridTuning(), RATES, by_loss) == chosen(RATES[1])
    even = [trial(rate, 0.9, loss=0.3) for rate in reversed(RATES)]
    assert next_step(GridTuning(), RATES, even) == chosen(RATES[0])


def test_where_the_metric_needs_generated_text_the_loss_decides() -> None:
    seen = [trial(rate, None, loss=loss) for rate, loss in zip(RATES, (0.9, 0.8, 0.85), strict=True)]
    assert next_step(GridTuning(), RATES, seen) == chosen(RATES[1])


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.CANCELLED])
def test_a_failed_trial_counts_as_the_worst_and_holds_nothing_up(status: RunStatus) -> None:
    seen = [trial(RATES[0], 0.1), trial(RATES[1], 0.2), lost(RATES[2], status)]
    assert next_step(GridTuning(), RATES, seen) == chosen(RATES[1])


def test_failed_trials_and_losses_without_a_number_choose_no_rate() -> None:
    grid = GridTuning(rates=2, seeds=2)
    seen = [trial(1e-3, 0.99), lost(1e-3, seed=FIRST_SEED + 1)]
    seen += [trial(1e-4, 0.5), trial(1e-4, 0.5, seed=FIRST_SEED + 1)]
    assert next_step(grid, (1e-4, 1e-3), seen) == chosen(1e-4)
    seen = [trial(RATES[0], 0.9, loss=float("nan")), trial(RATES[1], 0.2), trial(RATES[2], 0.1)]
    assert next_step(GridTuning(), RATES, seen) == chosen(RATES[1])
    assert next_step(GridTuning(), RATES, [lost(rate) for rate in RATES]) == AllFailed()


def test_seeds_are_averaged() -> None:
    grid = GridTuning(rates=2, seeds=2)
    seen = [
        trial(rate, score, seed=FIRST_SEED + seed)
        for rate, scores in ((1e-4, (0.7, 0.7)), (1e-3, (0.9, 0.4)))
        for seed, score in enumerate(scores)
    ]
    assert next_step(grid, (1e-4, 1e-3), seen) == chosen(1e-4)
    assert [one.score for one in tried(seen, 0)] == pytest.approx([0.7, 0.65])


def test_halving_sends_the_best_on_and_chooses_in_the_last_round() -> None:
    halving = HalvingTuning(rates=4, eta=2)
    rates = (1.0, 2.0, 3.0, 4.0)
    first = [trial(rate, score) for rate, score in zip(rates, (0.1, 0.4, 0.3, 0.2), strict=True)]
    assert next_step(halving, rates, first) == Try(1, at(2.0, 3.0))
    second = [trial(2.0, 0.5, round=1), trial(3.0, 0.6, round=1)]
    assert next_step(halving, rates, [*first, second[0]]) == Try(1, at(3.0))
    assert next_step(halving, rates, [*first, *second]) == chosen(3.0)


def test_halving_goes_on_with_those_that_are_left_and_takes_the_only_one() -> None:
    halving = HalvingTuning(rates=8, eta=2)
    rates = tuple(float(n) for n in range(1, 9))
    three = [trial(rate, 0.5) for rate in rates[:3]] + [lost(rate) for rate in rates[3:]]
    assert next_step(halving, rates, three) == Try(1, at(1.0, 2.0, 3.0))
    one = [trial(rates[0], 0.5)] + [lost(rate) for rate in rates[1:]]
    assert next_step(halving, rates, one) == chosen(1.0)
    died = [trial(rate, 0.5) for rate in rates] + [lost(rate, round=1) for rate in rates[:4]]
    assert next_step(halving, rates, died) == AllFailed()


def test_a_run_is_judged_by_the_weights_that_it_kept() -> None:
    seen = [evaluation("adapted", "validation", accuracy) for accuracy in (0.6, 0.9, 0.7)]
    steps = [e.model_copy(update={"step": step, "loss": step / 10}) for step, e in zip((1, 2, 3), seen, strict=True)]
    kept = result().model_copy(update={"evaluations": steps, "best_step": 2})
    assert reached(kept)[:2] == (0.9, 0.2)
    assert reached(result()) == (None, None, 0)


def test_runs_that_count_take_the_rate_that_was_chosen() -> None:
    study = spec(training=TrainingArguments(num_train_epochs=2))
    owed = study.owed({"full": Configuration(learning_rate=7e-6)})
    assert [(run.arm, run.seed, run.trial_round) for run in owed] == [("full", seed, None) for seed in (0, 1, 2)]
    assert {run.spec.training.learning_rate for run in owed} == {7e-6}
    assert {run.spec.training.num_train_epochs for run in owed} == {2}


def rival(*scores: float | None, **values: Any) -> Rival | None:
    """Of a grid of three rates of the full arm that reached these scores on 1,000 items."""
    one = spec()
    rates = rates_of(one, ARMS[0])
    seen = [
        trial(rate, score, arm="full", **({"items": 1000} | values)) if score is not None else lost(rate, arm="full")
        for rate, score in zip(rates, scores, strict=True)
    ]
    found = ArmTuning.of(one, ARMS[0], seen)
    assert found is not None and found.chosen is not None
    return found.rival


def test_the_closest_rate_that_chance_could_have_put_first_is_named() -> None:
    """1.96 · sqrt(0.6 · (1 − 0.9) / 1000) = 1.5 points: what two arms that reach 90 % differ by on 1,000 items."""
    near = rival(0.88, 0.9, 0.892)
    assert near is not None
    assert (near.rate, near.items) == (rates_of(spec(), ARMS[0])[2], 1000)
    assert near.behind == pytest.approx(0.008)
    assert near.within == pytest.approx(0.0152, abs=1e-4)
    assert rival(0.88, 0.9, 0.884) is None, "1.6 points behind is told apart on 1,000 items"
    assert rival(0.88, 0.9, 0.884, items=150) is not None, "and not on 150"


def test_a_rate_is_no_rival_if_its_trial_was_lost_or_has_no_score() -> None:
    assert rival(0.5, 0.9, None) is None
    lossy = {"score": None, "items": 1000, "arm": "full"}
    seen = [
        trial(rate, loss=loss, **lossy) for rate, loss in zip(rates_of(spec(), ARMS[0]), (1.0, 0.9, 1.1), strict=True)
    ]
    found = ArmTuning.of(spec(), ARMS[0], seen)
    assert found is not None
    assert (found.chosen, found.rival) == (*at(rates_of(spec(), ARMS[0])[1]), None)


@pytest.mark.parametrize(
    ("scores", "further"),
    [
        ((0.9, 0.8, 0.7), (1.11e-5, 3.33e-5, 1e-4)),
        ((0.7, 0.9, 0.8), ()),
        ((0.7, 0.8, 0.9), (1e-4, 3e-4, 9e-4)),
        ((0.9, 0.8), (1.11e-5, 3.33e-5)),
        ((0.8, 0.9), (1e-4, 3e-4)),
    ],
)
def test_a_best_rate_at_an_end_widens_the_rates(scores: tuple[float, ...], further: tuple[float, ...]) -> None:
    rates = rates_of(spec(), ARMS[0])[: len(scores)]
    arm = ARMS[0].model_copy(update={"search": over(rates)})
    one = spec(arms=[arm, *ARMS[1:]], tuning={"kind": "grid", "rates": len(rates)})
    seen = [trial(rate, score, arm="full", items=1000) for rate, score in zip(rates, scores, strict=True)]
    found = ArmTuning.of(one, arm, seen)
    assert found is not None
    assert (found.further.values if found.further else ()) == further
    again = trying(one, {"full": found.further})
    assert rates_of(again, again.arms[0]) == (further or rates)
    assert again.arms[1:] == one.arms[1:]


def test_no_rate_is_looked_for_beyond_the_largest_that_there_may_be() -> None:
    arm = ARMS[0].model_copy(update={"search": over((1.0, 3.0, 9.0))})
    one = spec(arms=[arm, *ARMS[1:]])
    seen = [trial(rate, rate / 10, arm="full", items=1000) for rate in (1.0, 3.0, 9.0)]
    found = ArmTuning.of(one, arm, seen)
    assert found is not None and found.edge == "largest"
    assert found.further is None


def test_only_the_last_round_of_halving_has_rivals() -> None:
    one = spec(tuning={"kind": "halving", "rates": 6})
    rates = rates_of(one, ARMS[0])
    first = [trial(rate, 0.9, arm="full", items=1000) for rate in rates]
    last = [
        trial(rate, score, arm="full", round=1, items=1000) for rate, score in zip(rates[:2], (0.9, 0.8), strict=True)
    ]
    found = ArmTuning.of(one, ARMS[0], [*first, *last])
    assert found is not None
    assert (found.chosen, found.rival) == (*at(rates[0]), None)


@pytest.mark.parametrize(
    ("dimension", "best"),
    [
        (DimensionSpec(values=(1.0000e-4, 1.0005e-4, 1.0010e-4, 1.0015e-4)), 1.0015e-4),
        (DimensionSpec(low=1.0010e-4, high=1.0014e-4), 1.0014e-4),
        (DimensionSpec(low=1.0010e-4, high=1.0014e-4), 1.0010e-4),
    ],
)
def test_rates_that_would_be_equal_in_three_digits_are_not_offered(dimension: DimensionSpec, best: float) -> None:
    space = SearchSpace(learning_rate=dimension)
    found = ArmTuning(space, "trials", 4, (trial(best), trial(1.0012e-4, 0.1)), chosen(best), graded=False)
    assert found.edge
    assert found.further is None
