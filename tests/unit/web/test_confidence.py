"""What 95 % is said of: one interval, or all comparisons of a study together."""

import re

import pytest
from fastapi.testclient import TestClient

from app.cli.terminal.runs import compared_table
from app.cli.terminal.study import verdict_table
from app.domain.comparison.runs import weigh
from app.store.queries import studies
from app.web.figures.verdict import verdict
from app.web.text.confidence import over_all
from app.web.text.runs_comparison import interval, lead
from tests.factories import FULL, LORA, plain, seed_study, weighed
from tests.unit.domain.test_compared import elsewhere, run
from tests.unit.web.conftest import database_of


@pytest.mark.parametrize(
    ("confidences", "says"),
    [
        ([0.95], "95 %"),
        ([0.975, 0.975], "95 % over all 2 comparisons (Holm: 97.5 % each)"),
        ([1 - 0.05 / 3, 0.975, 0.975], "95 % over all 3 comparisons (Holm: 97.5 % to 98.33 % each)"),
        ([1 - 0.05 / 99] * 99, "95 % over all 99 comparisons (Holm: 99.95 % each)"),
    ],
)
def test_each_intervals_own_confidence_stands_beside_that_of_all(confidences: list[float], says: str) -> None:
    assert plain(over_all(0.95, confidences)) == says


def test_the_verdicts_picture_calls_its_lines_what_they_are() -> None:
    """Of two arms the one told apart has 97.5 %, and the other what Holm leaves it."""
    found = weighed()
    seen = [arm.verdict.difference.confidence for arm in found.others if arm.verdict and arm.verdict.difference]
    assert sorted(seen) == [0.95, 0.975]
    note = plain(verdict(found).note)
    assert note.startswith("Lines are intervals of 95 % over all 2 comparisons (Holm: 95 % to 97.5 % each): 646 test")
    assert plain(verdict(weighed(arms=(FULL, LORA))).note).startswith("Lines are intervals of 95 %: 646 test items")


def test_a_study_that_was_looked_at_before_has_another_confidence_and_compares_as_its_own_page(
    empty: TestClient,
) -> None:
    with database_of(empty).transaction() as session:
        study = seed_study(session)
        studies.get(session, study).looks = 1
    judged = empty.get(f"/api/v1/studies/{study}/comparison").json()
    found = empty.get(f"/api/v1/compare?study={study}").json()
    assert found["confidence"] == judged["confidence"] == pytest.approx(0.99)
    its = {arm["name"]: arm["verdict"] and (arm["verdict"]["low"], arm["verdict"]["kind"]) for arm in judged["arms"]}
    assert its == {a["title"]: a["against"] and (a["against"]["low"], a["against"]["kind"]) for a in found["arms"]}
    page = plain(empty.get(f"/studies/{study}").text)
    assert "± of a score is a 95 % interval; of a difference it is 99 % over all 2 comparisons (Holm: " in page
    assert "Verdicts are held to 99 % instead of 95 %" in plain(empty.get("/compare?runs=1,2,4,5").text)
    for table in (verdict_table(judged), compared_table(found)):
        assert "± is a 95 % interval, of a difference 99 % over all 2 comparisons" in str(table.caption)


def test_shares_are_corrected_by_bonferroni_and_items_by_holm_and_that_is_how_they_are_called() -> None:
    here = [run(1), run(2, "LoRA"), run(3, "DoRA")]
    outside = [elsewhere(1, "full", 0.4), elsewhere(2, "LoRA", 0.5), elsewhere(3, "DoRA", 0.5)]
    both = [run(1, test_set="T"), run(2, "LoRA", test_set="T"), elsewhere(3, "DoRA", 0.8, test_set="T", items=400)]
    for runs, correction in ((here, "Holm"), (outside, "Bonferroni"), (both, "Holm and Bonferroni")):
        found = weigh(runs)
        assert f"95 % over all 2 comparisons ({correction}: 97.5 % each)" in plain(lead(found))
        assert f"of a difference it is 95 % over all 2 comparisons ({correction}: " in plain(interval(found))
    assert plain(interval(weigh(here[:2]))) == "± is a 95 % interval."
    assert not re.search(r"Holm|Bonferroni", lead(weigh(here[:2])))
