"""Verdicts in words: arms, attention-only warnings, and causes."""

import re
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.cli.terminal.comparison import comparison_table, remarks
from app.domain.comparison.grouping import ComparedRun
from app.domain.comparison.learning.causes import Cause, CauseKind
from app.domain.comparison.runs import compare_runs
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.comparison.study import StudyComparison, compare
from app.domain.methods import LoraSpec
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.services.studies import studies as study_service
from app.store.studies import queries as studies
from app.web.address import Address
from app.web.api.studies.comparison import RunComparisonOut
from app.web.figures.studies.arms_table import ArmsTable
from app.web.figures.studies.study import verdict
from app.words.verdict.attention import attention_arms, attention_text
from app.words.verdict.causes import remedy_label
from app.words.verdict.caveats import caveats
from app.words.verdict.headline import runs_lead
from app.words.verdict.verdict import (
    difference_text,
    interval_level,
    plus_minus_text,
    score_text,
    unusable_text,
    verdict_reason,
    verdict_sentence,
)
from tests.support.rows.factories import FULL, LORA, empty_database, plain, seed_study, weighed
from tests.unit.domain.comparison.test_runs import elsewhere, run
from tests.unit.web.conftest import database_of
from vezna.models import Comparison
from vezna.trackers.study import _arm_points


def test_each_intervals_own_confidence_stands_beside_that_of_all() -> None:
    one = compare_runs([run(1), run(2, "LoRA")])
    assert plain(interval_level(one)) == "95 % interval"
    many = compare_runs([run(1), *(run(2 + i, f"arm {i}", accuracy=0.5) for i in range(3))])
    assert plain(interval_level(many)) == "Holm-corrected 95 % intervals (3 comparisons, 98.33 % each)"
    corrected = [arm.difference.confidence for arm in weighed().others if arm.difference]
    assert sorted(corrected) == [0.95, 0.975]
    assert "(2 comparisons, 95 % to 97.5 % each)" in plain(interval_level(weighed()))


def test_the_verdicts_picture_calls_its_lines_what_they_are() -> None:
    """Of two arms, the distinguishable one has 97.5 %, and the other the level that Holm leaves it."""
    found = weighed()
    seen = [arm.verdict.difference.confidence for arm in found.others if arm.verdict and arm.verdict.difference]
    assert sorted(seen) == [0.95, 0.975]
    note = plain(verdict(found).note)
    assert note.startswith("Lines: Holm-corrected 95 % intervals (2 comparisons, 95 % to 97.5 % each) over 646 test")
    assert plain(verdict(weighed(arms=(FULL, LORA))).note).startswith("Lines: 95 % interval over 646 test items")


def test_a_study_with_an_interim_look_has_another_confidence_also_compared(empty: TestClient) -> None:
    with database_of(empty).transaction() as session:
        study = seed_study(session)
        studies.get(session, study).interim_looks = 1
    judged = empty.get(f"/api/v1/studies/{study}/comparison").json()
    found = empty.get(f"/api/v1/compare?study={study}").json()
    assert found["confidence"] == judged["confidence"] == pytest.approx(0.99)
    its = {arm["title"]: arm["verdict"] and (arm["verdict"]["low"], arm["verdict"]["kind"]) for arm in judged["arms"]}
    assert its == {a["title"]: a["verdict"] and (a["verdict"]["low"], a["verdict"]["kind"]) for a in found["arms"]}
    page = plain(empty.get(f"/studies/{study}").text)
    assert "± of a score: 95 % interval; of a difference: Holm-corrected 99 % intervals (2 comparisons, " in page
    assert "Verdicts have 99 % confidence instead of 95 %" in plain(empty.get("/compare?runs=1,2,4,5").text)
    for table in map(comparison_table, (judged, found)):
        assert "Holm-corrected 99 % intervals (2 comparisons, " in plain(str(table.caption))


def test_shares_are_corrected_by_bonferroni_and_items_by_holm_and_that_is_how_they_are_called() -> None:
    here = [run(1), run(2, "LoRA"), run(3, "DoRA")]
    outside = [elsewhere(1, "full", 0.4), elsewhere(2, "LoRA", 0.5), elsewhere(3, "DoRA", 0.5)]
    both = [run(1, test_set="T"), run(2, "LoRA", test_set="T"), elsewhere(3, "DoRA", 0.8, test_set="T", items=400)]
    for runs, correction in ((here, "Holm"), (outside, "Bonferroni"), (both, "Holm and Bonferroni")):
        found = compare_runs(runs)
        level = f"{correction}-corrected 95 % intervals (2 comparisons, 97.5 % each)"
        assert level in plain(runs_lead(found)) and level in plain(plus_minus_text(found))
    assert plain(plus_minus_text(compare_runs(here[:2]))) == "±: 95 % interval."
    assert not re.search(r"Holm|Bonferroni", runs_lead(compare_runs(here[:2])))


def test_an_interval_wider_than_the_scale_is_unknown_with_its_reason() -> None:
    """Two seeds on three items gave 66.7 ± 423.5."""

    def few(run_id: int, label: str, seed: int, *scores: float) -> ComparedRun:
        return run(run_id, label, seed, scores=np.array(scores), score=float(np.mean(scores)), items=3)

    runs = [
        few(1, "full", 0, 1, 0, 0),
        few(2, "full", 1, 1, 1, 1),
        few(3, "LoRA", 0, 1, 1, 0),
        few(4, "LoRA", 1, 0, 0, 0),
    ]
    found = compare_runs(runs)
    full, lora = found.arms
    reason = "2 seeds and 3 test items give no usable interval"
    assert (plain(score_text(full)), plain(difference_text(lora)), unusable_text(full.score)) == (
        "66.7 ± ? %", "−33.3 ± ?", reason
    )  # fmt: skip
    assert reason in verdict_reason(found, lora)
    _arm, cells = ArmsTable.of(found, Address("/compare"), "").rows[1]
    assert (plain(cells[0].doubt), cells[0].note, cells[1].note) == ("± ?", reason, reason)
    answer = RunComparisonOut.of(found).model_dump(mode="json")
    scores = [arm["score"] for arm in answer["arms"]]
    assert [(score["usable"], score["note"]) for score in scores] == [(False, reason)] * 2
    assert answer["arms"][1]["verdict"]["usable"] is False
    assert "66.7 ± ?" in [str(cell) for cell in comparison_table(answer).columns[1].cells]
    assert f"- full: {reason}" in list(remarks(answer))


def test_a_single_item_leaves_no_infinite_number_in_the_answer() -> None:
    one = compare_runs([run(1, scores=np.ones(1), score=1.0, items=1)])
    score = RunComparisonOut.of(one).model_dump(mode="json")["arms"][0]["score"]
    assert (score["low"], score["high"], score["usable"]) == (None, None, False)


def test_of_two_arms_the_one_with_a_search_is_named() -> None:
    """Runs of a tuned study beside those of another: the sentence says whose configuration was chosen."""
    runs = [run(1), run(2, seed=1), run(3, "LoRA", accuracy=0.6, searched=True), run(4, "LoRA", 1, 0.6, searched=True)]
    compared = compare_runs(runs)
    sentence = verdict_sentence(compared, compared.others[0])
    assert sentence.endswith("worse than full fine-tuning, with LoRA at the configuration that its search chose")
    assert "Searches chose the configurations of LoRA, and the verdicts are about these" in runs_lead(compared)
    assert "search" not in runs_lead(compare_runs([run(1), run(2, "LoRA")]))


def test_no_interval_of_a_score_leaves_its_range_on_pages_in_the_api_the_terminal_or_a_tracker() -> None:
    """Two seeds near 1 and near 0 ended at 1.0083 and −0.158."""

    def near(run_id: int, label: str, seed: int, right: int) -> ComparedRun:
        scores = np.zeros(40)
        scores[:right] = 1
        return run(run_id, label, seed, scores=scores, score=float(scores.mean()), items=40)

    found = compare_runs([near(1, "full", 0, 39), near(2, "full", 1, 40), near(3, "LoRA", 0, 0), near(4, "LoRA", 1, 1)])
    full, lora = found.arms
    assert full.score and lora.score and (full.score.high, lora.score.low) == (1, 0)
    low, high = f"{100 * full.score.low:.1f}", f"{100 * lora.score.high:.1f}"
    assert plain(score_text(full)) == f"98.8 % ({low} to 100.0)" and plain(score_text(lora)) == f"1.2 % (0.0 to {high})"
    cells = ArmsTable.of(found, Address("/compare"), "").rows[0][1]
    assert plain(cells[0].doubt) == f"({low} to 100.0)"
    answer = RunComparisonOut.of(found).model_dump(mode="json")
    assert answer["arms"][0]["score"]["high"] == 1 and answer["arms"][1]["score"]["low"] == 0
    verdict = answer["arms"][1]["verdict"]
    assert -1 <= verdict["low"] <= verdict["delta"] <= verdict["high"] <= 1
    assert [str(cell) for cell in comparison_table(answer).columns[1].cells] == [
        f"98.8 ({low} to 100.0)", f"1.2 (0.0 to {high})"
    ]  # fmt: skip
    exported = {point.name: point.value for point in _arm_points(Comparison.model_validate(answer))}
    assert exported["arm/full/score_high"] == 1 and exported["arm/LoRA/score_low"] == 0


WIDE = ArmSpec(name="wide", method=LoraSpec(r=8))
NARROW = LORA.model_copy(update={"name": "narrow"})


def judged(*arms: ArmSpec, narrow: float) -> StudyComparison:
    session = empty_database()
    study = seed_study(session, arms=arms, accuracy={"full": 0.9, "LoRA r=8": narrow, "narrow": narrow, "wide": 0.895})
    return study_service.comparison(session, study)


def test_it_stands_beside_the_arm_on_all_linear_layers() -> None:
    study = judged(FULL, WIDE, NARROW, narrow=0.85)
    [arm] = attention_arms(study)
    text = attention_text(study, arm)
    assert arm.title == "narrow"
    assert text.startswith("narrow adapts attention layers only: it differs from full by −5.0")
    assert "and wide, on all linear layers, by −0.5" in text
    assert text in [caveat.text for caveat in caveats(study)]


def test_without_such_an_arm_the_measurement_on_the_sample_is_quoted() -> None:
    study = judged(FULL, LORA, narrow=0.85)
    assert "3.8 ± 3.0 points worse than full fine-tuning" in attention_text(study, study.others[0])


def test_an_arm_that_is_good_enough_is_not_warned_about() -> None:
    good = judged(FULL, LORA, narrow=0.95)
    assert good.attention_only == {"LoRA r=8"}
    assert attention_arms(good) == []
    assert attention_arms(judged(FULL, WIDE, narrow=0.9)) == []


def test_of_undecided_arms_one_on_attention_alone_leads_the_headline_only_if_there_is_no_other() -> None:
    """In these studies all LoRA arms cost the same, and the first would lead."""
    both, alone = judged(FULL, NARROW, WIDE, narrow=0.888), judged(FULL, NARROW, narrow=0.888)
    undecided = [arm.title for arm in both.others if arm.verdict_kind is VerdictKind.UNDECIDED]
    assert undecided == ["narrow", "wide"]
    assert [study.focus.title for study in (both, alone) if study.focus] == ["wide", "narrow"]


def test_an_arm_on_attention_alone_that_is_good_enough_leads_by_its_cost() -> None:
    good = judged(FULL, NARROW, WIDE, narrow=0.95)
    assert good.focus and good.focus.title == "narrow"


@pytest.mark.parametrize(
    ("arm", "training", "label"),
    [
        ({}, {"num_train_epochs": 2}, "Train for 8 epochs"),
        ({}, {"max_steps": 30}, "Train for 120 steps"),
        ({"num_train_epochs": 5}, {"max_steps": 30}, "Train for 20 epochs"),
        ({"search": {"num_train_epochs": [1, 2]}}, {"max_steps": 30}, "Search 4 times as many epochs"),
        ({"search": {"max_steps": [10, 20]}}, {}, "Search 4 times as many steps"),
        ({"search": {"learning_rate": [1e-4, 1e-3]}}, {"max_steps": 30}, "Train for 120 steps"),
    ],
)
def test_more_steps_are_those_of_the_reference(arm: dict[str, Any], training: dict[str, Any], label: str) -> None:
    tuning = {"kind": "grid", "rates": 2} if "search" in arm else "none"
    body = {"name": "s", "base_model": "m", "dataset": "d", "training": training, "tuning": tuning}
    spec = StudySpec.model_validate(body | {"arms": [{"method": {"kind": "full"}} | arm]})
    assert remedy_label(Cause(CauseKind.STEPS, likely=True), compare(spec, [])) == label
