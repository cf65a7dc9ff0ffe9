"""Links of lists that other files leave."""

import re

import pytest
from playwright.sync_api import Page, expect

from app.services.runs import predictions
from app.store.runs import queries as runs
from app.web.pages.runs.form import EXAMPLES
from tests.browser.conftest import Site
from tests.support import prediction_files
from tests.support.filled import filled

pytestmark = pytest.mark.slow

FOUND = {
    'accuracy > 0.9 and method = "lora" and not failed': "0 runs",
    "peak < 2 GiB and train < 5 min": "18 runs",
    "failed or cancelled": "10 runs",
    "learning_rate in (2e-4, 2e-3)": "14 runs",
    'arm ~ "r=8"': "11 runs",
}


@pytest.mark.by_day
@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_of_a_filter_is_put_to_use(page: Page, text: str) -> None:
    page.goto("/runs")
    page.locator(".chip", has_text=text).click()
    expect(page.locator("#filter")).to_have_value(text)
    expect(page.locator("#count")).to_have_text(FOUND[text])
    expect(page.locator("#filter-mistake")).to_have_count(0)


def test_a_row_of_the_runs_leads_to_its_study(page: Page) -> None:
    page.goto("/runs?filter=study+%3D+3")
    page.locator("table.runs tbody").get_by_role("link", name="Two ranks").first.click()
    page.wait_for_url("**/studies/3")
    expect(page.locator(".crumbs")).to_contain_text("Two ranks")


def test_more_groups_follow(page: Page, site: Site) -> None:
    study = filled.three_arms()
    with site.database.transaction() as session:
        for number in range(17):
            training = study.training.model_copy(update={"max_steps": 10 + number})
            filled.add_study(session, study.model_copy(update={"training": training, "seeds": [0]}), hours_ago=1.0)
    page.goto("/runs?group=seed")
    toggles = page.locator("table.runs .toggle")
    first = toggles.evaluate_all("links => links.map(link => link.href)")
    page.get_by_role("link", name="More groups").click()
    page.wait_for_url("**&after=*")
    expect(page.get_by_role("link", name="More groups")).to_have_count(0)
    total = re.search(r"in (\d+) groups", page.locator("#count").inner_text())
    assert total is not None
    assert len(first) == 50
    expect(toggles).to_have_count(int(total[1]) - 50)


def test_all_that_wait_are_listed(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        for _time in range(6):
            filled.add_study(session, filled.three_arms(), hours_ago=1.0)
    page.goto("/workers")
    words = page.get_by_text(re.compile(r"^\d+ queued runs$")).inner_text()
    page.get_by_role("link", name="All queued runs").click()
    page.wait_for_url("**/runs?filter=queued")
    expect(page.locator("#filter")).to_have_value("queued")
    expect(page.locator("#count")).to_have_text(words.replace("queued ", ""))


def test_where_nothing_was_measured_a_study_is_offered(page: Page) -> None:
    page.goto("/workers")
    page.locator("#accuracy").get_by_role("link", name="New study").click()
    page.wait_for_url("**/studies/new")
    expect(page.locator("h1")).to_have_text("Plan a study")


@pytest.mark.nightly
def test_other_kinds_of_flips_are_reached_from_a_study(page: Page, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "CACHE", predictions.Cache())
    with site.database.transaction() as session:
        prediction_files.add_to_study(session, site.files, 1)
    kinds = {
        "full right, LoRA r=8 wrong": "Full right, LoRA r=8 wrong",
        "full wrong, LoRA r=8 right": "Full wrong, LoRA r=8 right",
        "base model wrong, LoRA r=8 right": "Base model wrong, LoRA r=8 right",
        "full and LoRA r=8 wrong": "Full and LoRA r=8 wrong",
        "every arm wrong": "Every arm wrong",
        "seeds of LoRA r=8 differ": "Seeds of LoRA r=8 differ",
        "all items": "All items",
    }
    for name, heading in kinds.items():
        page.goto("/studies/1")
        row = page.locator("#flips .flip-counts tbody tr", has_text="LoRA r=8")
        cell = row.get_by_role("link", name=f"{name}:")
        number = cell.inner_text()
        cell.click()
        expect(page.locator("h1")).to_contain_text(heading)
        expect(page.locator(".count")).to_have_text(re.compile(f"^{number} items?$"))
        expect(page.locator(".flip-items tbody tr").first).to_be_visible()


def test_a_run_whose_answers_cannot_be_read_is_named_and_led_to(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        prediction_files.add_to_study(session, site.files, 1)
        run = next(run for run in runs.of_study(session, 1) if run.arm == "LoRA r=8")
        prediction_files.store_bytes(session, site.files, run, b"no table")
        name = run.id
    page.goto("/studies/1/flips?arm=LoRA+r%3D8&kind=any")
    trouble = page.locator(".notice", has_text="Answers of some runs could not be read")
    expect(trouble).to_contain_text("LoRA r=8, seed")
    trouble.get_by_role("link", name=f"run {name}", exact=True).click()
    page.wait_for_url(f"**/runs/{name}")
