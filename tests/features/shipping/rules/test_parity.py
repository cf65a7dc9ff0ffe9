"""As which model a server answers, and what is kept of items that differ."""

import pytest

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.data.dataset import item_name
from app.domain.data.item_names import copy_name
from app.features.shipping.rules.parity import BEFORE, MOST_SHOWN, SHOWN, Model, Parity, ServedItem, parity
from app.features.shipping.words.parity import parity_answers_as


def items(as_run: int, as_base: int, alike: int = 0, **changes: str) -> list[ServedItem]:
    """Answers nearer to the run's, to the base model's, and those where both are the same."""
    one = ServedItem("i", "prompt", "run", "base", "run", 1.0, 0.0, 1.0, Model.RUN)
    other = one._replace(answer="base", score=0.0, nearer=Model.BASE)
    same = one._replace(base="run", base_score=1.0, nearer=Model.UNCLEAR)
    made = [item._replace(**changes) for item in [one] * as_run + [other] * as_base + [same] * alike]
    return [item._replace(item=f"i{place}") for place, item in enumerate(made)]


def result(as_run: int, as_base: int, alike: int = 0) -> Parity:
    return parity(items(as_run, as_base, alike), 0.02, "exact_match", 1.5, left_out=3)


@pytest.mark.parametrize(
    ("as_run", "as_base", "expected"),
    [
        (0, 0, Model.UNCLEAR),
        (0, 6, Model.UNCLEAR),
        (0, 7, Model.BASE),
        (7, 0, Model.RUN),
        (3, 12, Model.UNCLEAR),
        (2, 13, Model.BASE),
        (300, 700, Model.UNCLEAR),
        (250, 750, Model.BASE),
    ],
)
def test_chance_and_three_quarters_decide_as_which_model_it_answers(as_run: int, as_base: int, expected: Model) -> None:
    found = result(as_run, as_base, alike=5)
    assert (found.answers_as, found.as_run, found.as_base) == (expected, as_run, as_base)
    assert (found.telling, found.items) == (as_run + as_base, as_run + as_base + 5)
    if expected is Model.BASE:
        assert found.outcome is GateOutcome.FAIL


def test_copies_of_an_item_are_no_evidence_of_either_model() -> None:
    def repeated(times: int, **counts: int) -> Parity:
        once = items(**counts)
        copies = [copy_name(item_name(item.item), copy) for copy in range(times) for item in once]
        every = [item._replace(item=name) for item, name in zip(once * times, copies, strict=True)]
        return parity(every, 0.02, "exact_match", 1.0)

    assert repeated(1, as_run=0, as_base=3).answers_as is repeated(3, as_run=0, as_base=3).answers_as is Model.UNCLEAR
    few, many = repeated(1, as_run=3, as_base=3, alike=300), repeated(3, as_run=3, as_base=3, alike=300)
    assert (many.low, many.high) == pytest.approx((few.low, few.high))


@pytest.mark.parametrize(
    ("once", "copied", "expected"), [("run", "runs", Model.RUN), ("runs", "run", Model.NEARER_RUN)]
)
def test_copies_of_an_item_have_one_text(once: str, copied: str, expected: Model) -> None:
    """Nine inputs decide, not the thirty copies of a tenth."""
    alone = [item._replace(item=item_name(item.item), answer=once) for item in items(9, 0)]
    copies = [
        item._replace(item=copy_name(item_name("copied"), place), answer=copied)
        for place, item in enumerate(items(30, 0))
    ]
    found = parity([*alone, *copies], 0.02, "exact_match", 1.0)
    assert (found.answers_as, found.telling, found.as_run, found.clusters) == (expected, 10, 10, 10)
    assert found.same_telling == (9 if once == "run" else 1)
    text = str(parity_answers_as(found))
    assert "10 of the 10 items" in text and text.endswith("items with one input or group count once here")


@pytest.mark.parametrize(("same", "expected"), [(49, Model.NEARER_RUN), (50, Model.RUN)])
def test_the_runs_own_texts_show_that_it_is_the_run(same: int, expected: Model) -> None:
    """A score as good as the run's, by another model that writes in its manner, is undecided."""
    others = [item._replace(item=f"other {item.item}") for item in items(100 - same, 0, answer="runs")]
    found = parity(items(same, 0) + others, 0.02, "exact_match", 1.0)
    assert (found.answers_as, found.same_telling, found.as_run) == (expected, same, 100)
    assert found.outcome is (GateOutcome.PASS if expected is Model.RUN else GateOutcome.UNDECIDED)


@pytest.mark.parametrize(("telling", "outcome"), [(6, GateOutcome.PASS), (7, GateOutcome.UNDECIDED)])
def test_a_third_model_of_the_same_score_does_not_pass(telling: int, outcome: GateOutcome) -> None:
    neither = [
        item._replace(item=f"third {item.item}", answer="third", nearer=Model.UNCLEAR) for item in items(telling, 0)
    ]
    found = parity(neither + items(0, 0, alike=500), 0.02, "exact_match", 1.0)
    assert (found.delta, found.answers_as, found.outcome) == (0.0, Model.UNCLEAR, outcome)


def test_refused_items_leave_it_undecided_and_hide_no_failure() -> None:
    def refusing(*counts: int) -> Parity:
        return parity(items(*counts), 0.02, "exact_match", 1.0, refused=2, refusal="It is too long.")

    assert refusing(1000, 0).outcome is GateOutcome.UNDECIDED
    assert refusing(0, 1000).outcome is GateOutcome.FAIL
    assert refusing(900, 100).outcome is GateOutcome.FAIL


def test_scores_are_means_and_the_interval_decides_the_rest() -> None:
    found = result(980, 20)
    assert (found.score, found.run_score, found.base_score, found.left_out) == (0.98, 1.0, 0.0, 3)
    assert found.delta == pytest.approx(-0.02) and found.outcome is GateOutcome.UNDECIDED
    assert result(1000, 0).outcome is GateOutcome.PASS
    assert result(900, 100).outcome is GateOutcome.FAIL


def test_the_first_items_that_differ_are_kept_and_cut_around_the_difference() -> None:
    start = "a" * 1000
    found = parity(
        items(0, SHOWN + 5, run=f"{start}run", base="base", answer=f"{start}other", prompt="p" * 1000),
        0.02,
        "rouge_l",
        1.0,
    )
    assert len(found.differing) == SHOWN
    [first, *_] = found.differing
    assert first.run == f"…{'a' * BEFORE}run" and first.answer == f"…{'a' * BEFORE}other" and first.base == "base"
    assert first.prompt == f"…{'p' * MOST_SHOWN}"
