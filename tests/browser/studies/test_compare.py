"""Comparing any runs and bringing results in, in a browser: every control, and what is in the address after it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.domain.failures import FailureCode
from app.features.elsewhere.services import imports
from tests.browser.conftest import Site
from tests.support.rows.factories import MANY, seed_study
from tests.support.rows.imported_results import HERE, peft_files, result

pytestmark = pytest.mark.slow


@pytest.fixture
def with_peft(site: Site) -> Site:
    """The site with PEFT's results in it: collection 1, runs 38 to 42."""
    with site.database.transaction() as session:
        imports.add_results(session, imports.read_files(peft_files()), "MetaMathQA")
    return site


@pytest.fixture
def copying(site: Site, chromium: Browser) -> Iterator[Page]:
    """A window that may use the clipboard."""
    context = chromium.new_context(base_url=site.url, permissions=["clipboard-read", "clipboard-write"])
    yield context.new_page()
    context.close()


@pytest.mark.nightly
def test_a_run_is_compared_with_others_that_are_added(page: Page) -> None:
    page.goto("/runs/1")
    page.click("#compare-with")
    expect(page.locator("h1")).to_have_text("full alone: nothing to compare it with")
    page.fill("#add", "2, 3")
    page.click("#add-runs")
    expect(page.locator("#arms tbody tr")).to_have_count(3)
    page.click("#refer-2")
    expect(page).to_have_url(re.compile(r"reference=2#arms$"))
    expect(page.locator("tr.reference")).to_contain_text("LoRA r=8")
    expect(page.locator("#refer-2")).to_have_count(0)


def test_a_run_that_is_offered_is_added_by_its_link(page: Page) -> None:
    page.goto("/compare?runs=1")
    offered = page.locator("#more p a").first
    number = (offered.get_attribute("href") or "").rpartition(",")[2]
    offered.click()
    expect(page.locator(f"#arms a[href='/runs/{number}']")).to_be_visible()


@pytest.mark.nightly
def test_without_its_reference_a_study_leads_to_its_other_arms_and_another_margin_is_typed_in(
    site: Site, page: Page
) -> None:
    failed = {("full", seed): FailureCode.OUT_OF_MEMORY for seed in (0, 1, 2)}
    with site.database.transaction() as session:
        study = seed_study(session, arms=MANY, failed=failed)
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(f"/studies/{study}")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.click("#other-references a >> nth=0")
    expect(page.locator("h1")).to_have_text("5 arms compared with LoRA r=8: 3 enough, 1 worse and 1 without a verdict")
    expect(page.locator("#remarks")).to_contain_text("The study predeclared another reference")
    page.fill("#margin", "0,5")
    page.click("#add-runs")
    expect(page).to_have_url(re.compile("margin=0%2C5"))
    expect(page.locator("#margin")).to_have_value("0.5")
    expect(page.locator("h1")).to_have_text(
        "5 arms compared with LoRA r=8: 1 worse, 3 undecided and 1 without a verdict"
    )


def test_a_study_is_compared_with_runs_of_others(page: Page) -> None:
    page.goto("/studies/1")
    page.click("#compare-with")
    expect(page.locator("h1")).to_contain_text("2 arms compared with full")
    page.fill("#add", "10")
    page.press("#add", "Enter")
    expect(page.locator("#arms tbody tr")).to_have_count(4)


def test_arms_are_chosen_and_the_others_left_out(page: Page) -> None:
    page.goto("/compare?study=1&x=time&reference=2")
    page.check("#arms tbody tr:nth-child(1) input")
    page.check("#arms tbody tr:nth-child(2) input")
    page.click("#choose")
    expect(page.locator("#arms tbody tr")).to_have_count(2)
    expect(page.locator("#axis-x")).to_have_value("time")
    expect(page.locator("tr.reference")).to_contain_text("LoRA r=8")


def test_arms_are_put_in_order_and_back(page: Page) -> None:
    page.goto("/compare?study=1")
    for sort, first in (("memory", "head only"), ("time", "head only"), ("score", "full")):
        page.click(f"#sort-{sort}")
        expect(page.locator("#arms tbody tr").first).to_contain_text(first)
        expect(page.locator("#arms th[aria-sort]")).to_have_count(1)
    page.click("#unsorted")
    expect(page.locator("#arms th[aria-sort]")).to_have_count(0)


def test_the_axes_of_the_trade_off_are_chosen_and_stay_in_the_address(page: Page) -> None:
    page.goto("/compare?study=1")
    page.select_option("#axis-x", "trainable")
    expect(page.locator("#trade-off .wide")).to_contain_text("Trainable parameters")
    expect(page).to_have_url(re.compile(r"x=trainable"))
    page.select_option("#axis-y", "speed")
    expect(page.locator("#trade-off .wide")).to_contain_text("Tokens per second")
    expect(page).to_have_url(re.compile(r"x=trainable.*y=speed|y=speed.*x=trainable"))
    page.click("#show-trade-off")
    expect(page.locator("#numbers-trade-off table")).to_contain_text("head only")


def test_settings_are_switched_between_differences_and_all(page: Page) -> None:
    page.goto("/compare?runs=1,2")
    expect(page.locator("#settings")).not_to_contain_text("training.packing")
    page.click("#toggle")
    expect(page.locator("#settings")).to_contain_text("training.packing")
    page.click("#toggle")
    expect(page.locator("#settings")).not_to_contain_text("training.packing")


def test_the_settings_of_an_arm_are_copied(copying: Page) -> None:
    copying.goto("/compare?runs=1,2")
    copying.click("#copy-2")
    expect(copying.locator("#copy-2")).to_have_text("Copied")
    copied = json.loads(copying.evaluate("navigator.clipboard.readText()"))
    assert (copied["method.kind"], copied["method.r"]) == ("lora", "8")


def test_without_a_script_everything_but_copying_works(site: Site, chromium: Browser) -> None:
    context = chromium.new_context(base_url=site.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/compare?study=1")
    expect(page.locator("#copy-1")).to_be_hidden()
    page.select_option("#axis-x", "time")
    page.click("#trade-off noscript button, #trade-off form button")
    expect(page).to_have_url(re.compile(r"x=time"))
    context.close()


def test_runs_are_named_on_the_empty_page(page: Page) -> None:
    page.goto("/compare")
    page.fill("#runs", "1 2")
    page.click("#compare")
    expect(page.locator("#arms tbody tr")).to_have_count(2)


def test_files_are_brought_in_and_their_results_compared(page: Page, tmp_path: Path) -> None:
    broken, own = tmp_path / "broken.json", tmp_path / "own.json"
    broken.write_text('{"score": NaN}')
    own.write_text(json.dumps(result(label="mine")))
    page.goto("/imports")
    page.click("#import")
    expect(page.locator("#errors")).to_contain_text("No file was sent")
    page.set_input_files("#files", [*sorted(HERE.glob("*.json")), broken, own])
    page.fill("#collection", "Others")
    page.click("#import")
    expect(page.locator("#report")).to_contain_text("6 results were imported into Others")
    expect(page.locator("#report")).to_contain_text("broken.json")
    expect(page.locator("#report")).to_contain_text("NaN is not a number in JSON")
    page.click("#look")
    expect(page.locator("h1")).to_contain_text("5 arms compared with full")


def test_a_collection_is_opened_and_a_result_of_it_looked_at(page: Page, with_peft: Site) -> None:
    page.goto("/imports")
    page.click("#collection-1")
    expect(page.locator("#trade-off figcaption")).to_contain_text("of 5 arms are Pareto-optimal")
    page.click("#arms a[href='/runs/39']")
    expect(page.locator("h1")).to_have_text("LoRA r=32 reaches accuracy 47.8 %")
    page.click("#compare-with")
    page.click("#add-38")
    expect(page.locator("h1")).to_contain_text("Undecided whether LoRA r=32")
