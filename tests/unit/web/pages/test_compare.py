"""The page that compares any runs, without JavaScript: what it says, and what all is in its address."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.cli.terminal.comparison import comparison_table
from app.domain.failures import FailureCode
from app.features.elsewhere.services import imports
from tests.support.rows.factories import plain, seed_study
from tests.support.rows.imported_results import as_file, peft_files, result
from tests.unit.web.conftest import database_of, page_words


def peft(client: TestClient, folder: Path | None = None) -> None:
    """Bring PEFT's results in: collection 1."""
    with database_of(client).transaction() as session:
        imports.add_results(session, imports.read_files(peft_files(folder) if folder else peft_files()), "MetaMathQA")


def test_a_study_takes_its_margin_and_its_reference_along(empty: TestClient) -> None:
    """An arm is not enough on one page and undecided on the other, whether or not the address says it."""
    with database_of(empty).transaction() as session:
        study = seed_study(session, margin=2.0, reference="LoRA r=8")
    link = re.search(r'id="compare-with"\s+href="([^"]+)"', empty.get(f"/studies/{study}").text)
    assert link and link[1] == f"/compare?study={study}&amp;margin=2"
    judged = empty.get(f"/api/v1/studies/{study}/comparison").json()
    its = {arm["title"]: arm["verdict"]["kind"] for arm in judged["arms"] if not arm["reference"]}
    assert its == {"full": "enough", "head only": "worse"}
    for query in (f"study={study}&margin=2", f"study={study}", "runs=1,2,3,4,5,6,7,8,9"):
        found = empty.get(f"/api/v1/compare?{query}").json()
        assert found["margin"] == judged["margin"]
        assert {arm["title"]: arm["verdict"]["kind"] for arm in found["arms"] if arm["verdict"]} == its
    closer = empty.get(f"/api/v1/compare?study={study}&margin=0.5").json()
    assert closer["arms"][0]["verdict"]["kind"] == "undecided"


@pytest.mark.slow
def test_without_its_reference_a_studys_arms_are_held_against_each_other_and_that_is_said(empty: TestClient) -> None:
    failed = {("full", seed): FailureCode.OUT_OF_MEMORY for seed in (0, 1, 2)}
    with database_of(empty).transaction() as session:
        study = seed_study(session, failed=failed)
        fine = seed_study(session)
        lost = {("head only", seed): FailureCode.DIVERGED for seed in (0, 1, 2)}
        two_failed = seed_study(session, failed=failed | lost)
    page = empty.get(f"/studies/{study}").text
    assert "No verdict: the reference full has no result" in page
    assert "it is not a verdict of this study" in page
    links = dict(re.findall(r'id="against-\d+"\s+href="([^"]+)">Compare with ([^<]+)</a>', page))
    assert list(links.values()) == ["LoRA r=8", "head only"]
    first = next(iter(links)).replace("&amp;", "&")
    assert first == f"/compare?study={study}&reference=2&margin=2"
    for address in (first, f"/compare?study={study}"):
        text = page_words(empty, address)
        assert "2 arms compared with LoRA r=8: 1 worse and 1 without a verdict" in text
        assert "The study predeclared another reference : this one was chosen after the runs" in text
    assert "2 arms compared with head only: 1 enough" in page_words(empty, list(links)[1].replace("&amp;", "&"))
    found = empty.get(f"/api/v1/compare?study={study}").json()
    assert [arm["failed"] for arm in found["arms"]] == ["out of memory", "", ""]
    assert re.search(
        r"full BBC headlines on MiniLM-L6 0 seeds [\d ]+(as reference )?out of memory", page_words(empty, first)
    )
    [cells] = [list(column.cells) for column in comparison_table(found).columns[1:2]]
    assert cells[0] == "out of memory" and "±" in cells[1]
    for other in (fine, two_failed):
        assert 'id="against-' not in empty.get(f"/studies/{other}").text
        assert "predeclared another reference" not in page_words(empty, f"/compare?study={fine}")
    report = empty.get(f"/studies/{study}/report.html").text
    assert 'id="against-' not in report  # it opens offline


def test_the_margin_is_a_field_that_is_sent_with_what_else_the_address_says(full: TestClient) -> None:
    text = full.get("/compare?study=1&margin=2,5&reference=2").text
    form = text.split('<div id="more">')[1].split("</form>")[0]
    assert re.search(r'<input id="margin" name="margin"[^>]* value="2.5"', form)
    hidden = re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', form)
    assert hidden == [("study", "1"), ("reference", "2")]
    assert 'value="2"' in full.get("/compare?runs=1,2&margin=").text.split('id="margin"')[1].split(">")[0]
    assert 'id="margin"' not in full.get("/compare?runs=1").text  # nothing to judge


def test_the_question_is_a_field_of_the_page_and_a_parameter_of_the_api(full: TestClient) -> None:
    """Any runs were tested for non-inferiority alone."""
    form = full.get("/compare?runs=1,2").text.split('<div id="more">')[1].split("</form>")[0]
    assert re.search(r'<option value="non-inferiority"\s+selected', form)
    form = full.get("/compare?runs=1,2&alternative=equivalence").text.split('<div id="more">')[1].split("</form>")[0]
    assert re.search(r'<option value="equivalence"\s+selected', form)
    assert 'type="hidden" name="alternative"' not in form
    words = {
        kind: full.get(f"/api/v1/compare?study=1&margin=20&alternative={kind}").json()["arms"][1]["verdict"]["kind"]
        for kind in ("non-inferiority", "equivalence")
    }
    assert words == {"non-inferiority": "enough", "equivalence": "within"}
    assert full.get("/api/v1/compare?runs=1,2&alternative=other").status_code == 422


def test_two_single_runs_have_mcnemars_test_beside_them(full: TestClient) -> None:
    text = page_words(full, "/compare?runs=1,2")
    assert "Undecided whether LoRA r=8 loses less than 2 points against full fine-tuning" in text
    assert re.search(r"McNemar's exact test: \d+ items only LoRA r=8 gets right, \d+ only full; p = 0\.\d+", text)


def test_a_reference_that_is_not_among_them_is_replaced_and_that_is_said(full: TestClient) -> None:
    assert "Run 3 is not among the compared runs The reference is full instead." in page_words(
        full, "/compare?runs=1,2&reference=3"
    )
    assert "Run 3 is not among the compared runs" in full.get("/api/v1/compare?runs=1,2&reference=3").json()["detail"]


def test_settings_show_differences_or_all_of_them(full: TestClient) -> None:
    differences, everything = (full.get(f"/compare?runs=1,2{more}").text for more in ("", "&show=all"))
    assert "method.lora_alpha" in differences and "training.num_train_epochs" not in differences
    assert "training.num_train_epochs" in everything
    assert 'href="/compare?runs=1%2C2&amp;show=all#settings"' in differences
    assert 'href="/compare?runs=1%2C2#settings"' in everything
    assert "&#34;method.r&#34;: &#34;8&#34;" in differences  # to be copied


@pytest.mark.parametrize(
    ("sort", "first"), [("", "full"), ("-score", "full"), ("memory", "head only"), ("time", "head only")]
)
def test_arms_come_in_the_order_that_is_asked_for(full: TestClient, sort: str, first: str) -> None:
    text = full.get(f"/compare?study=1{'&sort=' + sort if sort else ''}").text
    assert re.findall(r'<span class="method"[^>]*>.*?<span>(.*?)</span>', text, re.S)[0] == first
    assert ("aria-sort" in text) is bool(sort)


@pytest.mark.by_day
@pytest.mark.parametrize("x", ["memory", "time", "trainable", "file", "speed"])
def test_the_trade_off_has_any_axes_and_its_files_have_the_same(full: TestClient, x: str) -> None:
    text = full.get(f"/compare?study=1&x={x}").text
    files = re.findall(r'id="trade-off-(csv|svg|png)"[^>]* href="([^"]+)"', text)
    assert len(files) == 3
    for ending, address in files:
        answer = full.get(address.replace("&amp;", "&"))
        assert answer.status_code == 200, ending
    csv = full.get(f"/compare/charts/trade-off.csv?study=1&x={x}").text
    assert csv.startswith("arm,score,score_low,score_high,")


def test_imported_runs_have_the_axes_of_their_file_and_no_whiskers(empty: TestClient) -> None:
    with database_of(empty).transaction() as session:
        results = [result(label=label, items=None, peak_bytes=2**30 * n) for n, label in ((1, "a"), (2, "b"))]
        imports.add_results(session, imports.read_files([as_file(*results)]), "elsewhere")
    text = empty.get("/compare?collection=1").text
    offered = re.findall(r'<option value="(\w+)"', text.split('id="axis-x"')[1].split("</select>")[0])
    assert "memory" in offered and "wall" not in offered
    rows = [line.split(",") for line in empty.get("/compare/charts/trade-off.csv?collection=1").text.splitlines()]
    assert [row[1:5] for row in rows[1:]] == [
        [rows[1][1], "", "", str(float(2**30))],
        [rows[2][1], "", "", str(2.0**31)],
    ]


def test_a_run_alone_offers_others_to_hold_it_against(full: TestClient) -> None:
    text = full.get("/compare?runs=1").text
    assert "full alone: nothing to compare it with" in text
    assert re.search(r'href="/compare\?runs=1,\d+"', text)


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("runs=abc", 422, "is not the id of a run"),
        ("runs=99999999999", 422, "is not the id of a run"),
        ("runs=1&margin=0", 422, "'0' is not a margin. Write points above 0 and up to 100, such as 1 or 2.5."),
        ("runs=1&margin=two", 422, "'two' is not a margin"),
        ("runs=1&x=beauty", 422, "x"),
        ("runs=1&sort=beauty", 422, "sort"),
        ("study=99", 404, "There is no study 99."),
        ("collection=99", 404, "There is no collection 99."),
    ],
)
def test_what_an_address_cannot_ask_for_is_a_sentence(full: TestClient, query: str, status: int, says: str) -> None:
    assert says in page_words(full, f"/compare?{query}", status)


def test_more_runs_than_can_be_compared_are_refused_and_named(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        imports.add_results(session, imports.read_files([as_file(*(result(seed=n) for n in range(101)))]), "many")
    assert "101 runs are too many to compare. Choose at most 100 of them." in page_words(
        full, "/compare?collection=1", 422
    )


def test_the_api_says_the_same_as_the_page(full: TestClient) -> None:
    peft(full)
    found: dict[str, Any] = full.get("/api/v1/compare?runs=1,4,7,2,5,8").json()
    assert plain(found["headline"]) in page_words(full, "/compare?runs=1,4,7,2,5,8")
    assert [(arm["title"], arm["reference"], arm["seeds"]) for arm in found["arms"]] == [
        ("full", True, 3), ("LoRA r=8", False, 3)
    ]  # fmt: skip
    assert found["arms"][1]["verdict"]["basis"] == "items"
    assert found["differing_settings"]["method.kind"] == ["full", "lora"]
    mixed = full.get("/api/v1/compare?runs=1,38").json()
    assert mixed["confounders"][0]["kind"] == "test_items"
    assert mixed["confounders"][0]["effect"] == "verdict"
    assert mixed["memory_comparable"] is False
    assert full.get("/api/v1/compare?runs=1,999").json()["detail"] == "There is no run 999."
    assert full.get("/api/v1/compare").status_code == 422


def test_full_against_lora_elsewhere_is_undecided_and_no_ranking(empty: TestClient) -> None:
    peft(empty)
    found = empty.get("/api/v1/compare?runs=1,2").json()
    assert [arm["title"] for arm in found["arms"]] == ["full", "LoRA r=32"]
    assert [round(arm["score"]["mean"], 4) for arm in found["arms"]] == [0.4716, 0.4784]
    against = found["arms"][1]["verdict"]
    assert (against["kind"], against["basis"], against["label"]) == ("undecided", "shares", "undecided")
    assert against["low"] < 0 < against["high"]
    text = page_words(empty, "/compare?runs=1,2")
    assert "Undecided whether LoRA r=32 loses less than 1 point against full fine-tuning: +0.7 ± 3.8 points" in text
    assert "(Newcombe 1998)" in text
    assert "It ranks nothing." in text
    assert "Every arm has one seed : the variance over seeds is unknown" in text
    assert "All results are imported : Vezna has not verified them" in text
