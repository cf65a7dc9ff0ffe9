"""What a study says, for every kind of verdict."""

from dataclasses import replace
from typing import Any

import pytest

from app.domain.comparison.fairness.confounders import ConfounderKind
from app.domain.comparison.statistics.intervals import Difference
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.comparison.study import StudyComparison
from app.domain.failures import FailureCode
from app.domain.methods import LoraSpec
from app.domain.studies.arms import ArmSpec
from app.domain.studies.next_step import Chosen
from app.domain.studies.power import RequiredSample
from app.domain.studies.tuning.arm_tuning import ArmTuning
from app.domain.studies.tuning.search_space import Configuration, SearchSpace
from app.words.format import join_names
from app.words.verdict.caveats import caveats
from app.words.verdict.facts import facts
from app.words.verdict.headline import headline, phrase
from app.words.verdict.lead import lead, times_smaller
from app.words.verdict.learning import enough_text
from app.words.verdict.needs import needs_label, seeds_needed, what_would_decide
from app.words.verdict.verdict import seed_range
from tests.support.rows.factories import ALL, FULL, LORA, weighed
from tests.support.rows.factories import plain as spaced

STATES: dict[str, dict[str, Any]] = {
    "within": {},
    "better": {"accuracy": {"LoRA r=8": 0.93}},
    "worse": {"arms": (FULL, LORA), "accuracy": {"LoRA r=8": 0.85}},
    "all worse": {"accuracy": {"LoRA r=8": 0.85}},
    "undecided": {"luck": 0.5, "seed_sd": 0.012},
    "hint": {"arms": (FULL, LORA), "seeds": (0,), "luck": 0.05, "accuracy": {"LoRA r=8": 0.895}},
    "partial": {"queued": ALL[7:], "running": ALL[6:7]},
    "queued": {"queued": ALL},
    "no verdict yet": {"queued": ALL[1:]},
    "all failed": {"failed": dict.fromkeys(ALL, FailureCode.OUT_OF_MEMORY)},
    "cancelled": {"cancelled": ALL},
    "reference failed": {"failed": {("full", seed): FailureCode.OUT_OF_MEMORY for seed in (0, 1, 2)}},
    "only the reference": {"failed": dict.fromkeys([r for r in ALL if r[0] != "full"], FailureCode.DIVERGED)},
    "one arm": {"arms": (LORA,)},
}
HEADINGS = {
    "within": "LoRA r=8 is enough: it loses less than 2 points against full fine-tuning",
    "better": "LoRA r=8 is enough, and 3.5 ± 1.3 points better than full fine-tuning",
    "worse": "LoRA r=8 is 4.5 ± 1.4 points worse than full fine-tuning",
    "all worse": "No arm reaches full fine-tuning: LoRA r=8 comes closest, 4.5 ± 1.4 points below",
    "undecided": "Undecided whether LoRA r=8 loses less than 2 points against full fine-tuning",
    "hint": "One seed hints that LoRA r=8 loses less than 2 points against full fine-tuning",
    "partial": "So far, LoRA r=8 is enough: it loses less than 2 points against full fine-tuning",
    "queued": "Queued: 9 runs wait",
    "no verdict yet": "Running: 1 of 9 runs done",
    "all failed": "All 9 runs failed: out of memory",
    "cancelled": "Cancelled before a run had ended",
    "reference failed": "No verdict: the reference full has no result",
    "only the reference": "No verdict: only the reference full has a result",
    "one arm": "LoRA r=8 reaches 89.1 ± 2.0 %",
}
PHRASES = HEADINGS | {
    "all worse": HEADINGS["worse"],
    "undecided": HEADINGS["undecided"].replace("U", "u", 1),
    "hint": HEADINGS["hint"].replace("O", "o", 1),
    "partial": "Running: 6 of 9 runs done",
}


def found(state: str) -> StudyComparison:
    """A study in that state."""
    return weighed(**STATES[state])


@pytest.mark.by_day
@pytest.mark.parametrize("state", STATES)
def test_a_study_says_its_verdict_in_a_phrase_and_in_a_heading(state: str) -> None:
    study = found(state)
    assert (spaced(phrase(study)), spaced(headline(study))) == (PHRASES[state], HEADINGS[state])


def test_a_good_and_cheaper_arm_is_recommended_with_what_it_saves() -> None:
    assert spaced(lead(found("within"))) == (
        "Use it here: it needs 37 % of the memory, 52 % of the train time and a file 290 times smaller. "
        "The difference in accuracy is −0.4 ± 1.2 points: a loss of 2 points is excluded. "
        "Head only takes even less memory and is 8.3 ± 1.9 points worse."
    )


def test_a_recommendation_after_a_search_names_the_configuration() -> None:
    study = found("within")
    chosen = Chosen(Configuration(learning_rate=3.9e-3, r=16))
    tuning = ArmTuning(SearchSpace(), "trials", budget=3, trials=(), step=chosen, graded=False)
    tuned = replace(study, arms=tuple(replace(arm, tuning=tuning) for arm in study.arms))
    assert spaced(lead(tuned)).startswith("Use it here with learning rate 3.9e-3, rank 16: it needs 37 % of the memory")
    assert phrase(tuned) == headline(tuned)
    assert headline(tuned).endswith("at the configurations that their searches chose")


def test_an_undecided_study_says_what_would_decide() -> None:
    words = spaced(lead(found("undecided")))
    assert words.startswith("The difference in accuracy is −0.4 ± 3.2 points: it may be zero, and it may be a loss of")
    assert "seeds per arm instead of 3" in words
    assert "~50 % power: " in words and "would decide about LoRA r=8." in words
    assert "Use it here" not in words


def test_a_worse_arm_is_never_recommended() -> None:
    assert "Use it" not in lead(found("worse"))
    assert "Use it" not in lead(found("all worse"))


def test_a_partial_verdict_is_called_partial() -> None:
    study = found("partial")
    assert "this can change" in lead(study)
    assert "Use it here" not in lead(study)
    assert caveats(study)[0].text == "partial: 6 of 9 runs have ended"
    worse = weighed(accuracy={"LoRA r=8": 0.85}, queued=ALL[8:])
    assert headline(worse).startswith("So far, no arm reaches full fine-tuning")


def test_a_failed_study_says_what_to_do_next() -> None:
    assert lead(found("all failed")).startswith("The device ran out of memory. Use a smaller batch size")


def test_a_missing_reference_is_named_with_the_reason() -> None:
    assert lead(found("reference failed")).startswith("Full fine-tuning failed: out of memory. LoRA r=8 reaches 89.1")


def test_the_four_facts_of_a_verdict() -> None:
    assert [(spaced(f.value), f.unit, spaced(f.what)) for f in facts(found("within"))] == [
        ("−0.4 ± 1.2", "points", "accuracy, 89.1 compared with 89.5 %"),
        ("37 %", "", "of the memory, 150 of 403 MiB"),
        ("52 %", "", "of the train time, 28 s of 54 s"),
        ("290×", "smaller", "file, 0.30 MiB of 86.7 MiB"),
    ]


def test_what_does_not_compare_is_not_compared() -> None:
    study = weighed()
    unlike = StudyComparison(**vars(study) | {"times_comparable": False, "memory_comparable": False})
    assert "Use it here" not in lead(unlike)
    assert "% of the" not in spaced(lead(unlike))
    assert [f.value for f in facts(unlike)][1:3] == ["–", "–"]


def test_a_study_without_tuning_always_says_so() -> None:
    for state in ("within", "better", "worse", "undecided", "hint", "partial"):
        assert any(c.text.startswith("learning rates were not tuned: ") for c in caveats(found(state)))


def test_nothing_is_said_to_have_differed_but_the_method_only_where_that_is_so() -> None:
    nothing = "only the method and its learning rate differ"
    assert nothing in [c.text for c in caveats(found("within"))]
    decayed = [c.text for c in caveats(weighed(arms=(FULL, LORA.model_copy(update={"weight_decay": 0.1}))))]
    assert nothing not in decayed
    doubt = "the weight decay differs: a difference may come from it, not from the method (0: full; 0.1: LoRA r=8)"
    assert doubt in decayed


def test_one_seed_and_lost_runs_are_kept_in_mind() -> None:
    assert [c.kind for c in found("hint").confounders] == [ConfounderKind.UNTUNED, ConfounderKind.ONE_SEED]
    one = "every arm has one seed: the variance over seeds is unknown, so a difference is a hint at best"
    assert one in [c.text for c in caveats(found("hint"))]
    lost = weighed(failed={("LoRA r=8", 1): FailureCode.DIVERGED}, cancelled=[("head only", 2)])
    assert [c.text for c in caveats(lost)][:2] == ["1 run failed (diverged)", "1 run was cancelled"]


def test_the_headline_is_about_the_cheapest_arm_of_the_best_class() -> None:
    big = ArmSpec(method=LoraSpec(r=64, target_modules="all-linear"))
    both = weighed(arms=(FULL, big, LORA), luck=0.1, accuracy={"LoRA r=64": 0.895, "LoRA r=8": 0.895})
    better = weighed(arms=(FULL, LORA, big), accuracy={"LoRA r=64": 0.95, "LoRA r=8": 0.895}, luck=0.1)
    worse = weighed(accuracy={"LoRA r=8": 0.85})
    assert [study.focus.title for study in (both, better, worse) if study.focus] == [
        "LoRA r=64",
        "LoRA r=64",
        "LoRA r=8",
    ]


def test_without_a_verdict_there_is_no_arm_to_speak_of() -> None:
    assert found("queued").focus is None
    assert facts(found("queued")) == ()
    assert caveats(found("queued")) == ()


def test_one_is_one() -> None:
    one = {"arms": (LORA,), "seeds": (0,)}
    alone = [("LoRA r=8", 0)]
    assert headline(weighed(**one, queued=alone)) == "Queued: 1 run waits"
    assert headline(weighed(**one, failed=dict.fromkeys(alone, FailureCode.DIVERGED))) == "The run failed: diverged"
    assert phrase(weighed(**one, running=alone)) == "Running: 0 of 1 run done"
    assert [seed_range(counts) for counts in ([1, 1], [3, 3], [3, 1])] == ["1 seed", "3 seeds", "1 to 3 seeds"]


def test_more_seeds_are_counted_for_the_arm_that_needs_the_most() -> None:
    study = weighed(luck=0.5, seed_sd=0.012, accuracy={"head only": 0.88})
    needed = {arm.title: seeds_needed(arm) for arm in study.others}
    assert all(needed.values())
    most = max(study.others, key=seeds_needed)
    assert f"{needed[most.title]} seeds per arm instead of 3" in spaced(what_would_decide(most))
    assert f"would decide about {most.title}" in spaced(what_would_decide(most))


@pytest.mark.parametrize(
    ("needs", "seeds", "words"),
    [
        (RequiredSample(7, None), 4, "3 more seeds would decide, if the difference stays"),
        (RequiredSample(5, None), 4, "1 more seed would decide, if the difference stays"),
        (RequiredSample(7, 1300), 4, "3 more seeds or 1,300 test items would decide, if the difference stays"),
        (RequiredSample(None, 1300), 4, "1,300 test items would decide, if the difference stays"),
        (
            RequiredSample(None, None, (5, 9000)),
            4,
            "5 seeds and about 9,000 test items would decide, if the difference stays",
        ),
        (RequiredSample(None, None), 4, "no feasible number of seeds and test items would decide"),
        (RequiredSample(None, None, assumed=True), 1, "more seeds would show the variance over seeds"),
        (None, 4, ""),
    ],
)
def test_an_undecided_verdict_says_what_decides(needs: RequiredSample | None, seeds: int, words: str) -> None:
    arm = found("undecided").others[0]
    assert arm.verdict and isinstance(arm.difference, Difference)
    changed = replace(arm.difference, seeds=seeds, reference_seeds=seeds)
    assert needs_label(replace(arm, verdict=replace(arm.verdict, needs=needs, difference=changed))) == words


def test_every_undecided_arm_says_it_and_no_other() -> None:
    study = found("undecided")
    for arm in study.others:
        assert bool(needs_label(arm)) == (arm.verdict_kind is VerdictKind.UNDECIDED)
    assert "LoRA r=8: 10 more seeds would decide, if the difference stays." in enough_text(study)
    assert "would decide" not in enough_text(found("within"))


def test_lists_and_ratios_read_as_one_says_them() -> None:
    assert join_names(["full"]) == "full"
    assert join_names(["full", "LoRA r=8", "head only"]) == "full, LoRA r=8 and head only"
    assert [times_smaller(1, n) for n in (1.5, 2.04, 37.4, 293)] == [None, "2.0", "37", "290"]
