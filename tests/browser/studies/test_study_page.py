"""What a study's page offers beside its charts: its ways on, its contents, its files, its runs and its buttons."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from app.store.runs import queries as runs
from tests.browser.conftest import Site
from tests.support import prediction_files
from tests.support.filled import filled
from tests.support.rows import factories

pytestmark = pytest.mark.slow

CONTENTS = ("arms", "trade-off", "memory", "time", "break-even", "flips", "conditions")
TABLES = [
    (f"{table}, {form}", f"study-1-{name}.{ending}")
    for table, name in (("Runs", "runs"), ("Test items", "items"), ("Steps", "steps"))
    for form, ending in (("CSV", "csv"), ("Parquet", "parquet"))
]
BEGINS = {"csv": b"", "svg": b"<svg", "png": b"\x89PNG", "parquet": b"PAR1"}
FIRST = {
    "arm": ("full", "LoRA r=8"),
    "score": ("full", "head only"),
    "difference": ("full", "head only"),
    "memory": ("head only", "full"),
    "time": ("head only", "full"),
    "trainable": ("head only", "full"),
    "file": ("head only", "full"),
}
"""By column: the first arm when it is pressed once, and when it is pressed again."""


def opened(page: Page, link: Locator) -> bytes:
    """What a link opens in the window, which then goes back."""
    address, before = link.get_attribute("href") or "", page.url
    link.click()
    page.wait_for_url(f"**{address}")
    page.goto(before)
    answer = page.request.get(address)
    assert answer.ok, address
    content: bytes = answer.body()
    return content


@pytest.mark.nightly
def test_the_contents_and_what_to_keep_in_mind_lead_to_their_sections(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        prediction_files.add_to_study(session, site.files, 1)
    page.goto("/studies/1")
    for section in CONTENTS:
        page.click(f"#to-{section}")
        expect(page).to_have_url(re.compile(f"#{section}$"))
        expect(page.locator(f"#{section} h2").first).to_be_in_viewport()
    page.get_by_role("link", name="learning rates were not tuned").click()
    expect(page.locator("#conditions h2")).to_be_in_viewport()


@pytest.mark.nightly
def test_every_column_sorts_in_place_and_turns_round(page: Page) -> None:
    page.goto("/studies/1")
    first = page.locator("#arms tbody tr").first
    for column, arms in FIRST.items():
        order = page.locator("#arms th", has=page.locator(f"#sort-{column}"))
        page.click(f"#sort-{column}")
        expect(order).to_have_attribute("aria-sort", re.compile("ending$"))
        once = order.get_attribute("aria-sort") or ""
        expect(first, column).to_contain_text(arms[0])
        page.click(f"#sort-{column}")
        expect(order).to_have_attribute("aria-sort", "ascending" if once == "descending" else "descending")
        expect(first, f"{column}, turned round").to_contain_text(arms[1])


@pytest.mark.parametrize("button", ["#duplicate", "#duplicate-with-rates"])
def test_a_study_is_repeated_from_a_form_that_is_filled_in(page: Page, button: str) -> None:
    page.goto("/studies/3")
    page.click(button)
    page.wait_for_url("**/studies/new?from_study=3")
    expect(page.locator("fieldset.arm")).to_have_count(4)
    expect(page.locator("#arms-1-method-r")).to_have_value("4")
    expect(page.locator("#training-num_train_epochs")).to_have_value("1")


@pytest.mark.nightly
def test_every_entry_of_the_export_menu_gives_what_it_says(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        prediction_files.add_to_study(session, site.files, 1)
    page.goto("/studies/1?sort=memory")
    menu = page.locator("#export")
    page.click("#show-export")
    for name, file in TABLES:
        with page.expect_download() as started:
            menu.get_by_role("link", name=name).click()
        assert started.value.suggested_filename == file
        assert started.value.path().read_bytes().startswith(BEGINS[file.rpartition(".")[2]])
    for name, holds in (("Verdict, SVG", b"<svg"), ("Verdict, PNG", b"\x89PNG"), ("Comparison, JSON", b'"arms"')):
        assert holds in opened(page, menu.get_by_role("link", name=name)), name
        page.click("#show-export")
    menu.get_by_role("link", name="Report, HTML").click()
    expect(page.locator(".letterhead")).to_contain_text("Study 1")
    assert page.url.endswith("/studies/1/report.html?sort=memory")
    expect(page.locator("#arms tbody tr").first).to_contain_text("head only")


def test_numbers_of_each_figure_unfold_and_its_files_are_taken(page: Page) -> None:
    page.goto("/studies/1")
    for name in ("verdict", "trade-off", "time", "weight-delta", "matrices"):
        table = page.locator(f"#numbers-{name} table")
        expect(table).to_be_hidden()
        page.click(f"#show-{name}")
        expect(table).to_contain_text("LoRA r=8" if name != "matrices" else "query")
        page.click(f"#show-{name}")
        expect(table).to_be_hidden()
    with page.expect_download() as started:
        page.click("#memory-csv")
    assert started.value.suggested_filename == "study-1-memory.csv"
    for ending in ("svg", "png"):
        assert opened(page, page.locator(f"#memory-{ending}")).startswith(BEGINS[ending])


def test_seeds_are_added_by_the_button_that_says_how_many(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        study = factories.seed_study(session, luck=0.5, seed_sd=0.012)
    page.goto(f"/studies/{study}")
    button = page.get_by_role("button", name=re.compile(r"Add \d+ seeds"))
    added = int(re.findall(r"\d+", button.inner_text())[0])
    button.click()
    expect(page.locator("#progress")).to_contain_text(f"9 of {9 + 3 * added} runs done")


def test_a_study_is_cancelled(page: Page) -> None:
    page.goto("/studies/2")
    page.click("#cancel")
    expect(page.locator("#arms tbody")).to_contain_text("cancelled")
    page.wait_for_url("**/studies/2")
    expect(page.locator("#lost-17")).to_be_visible()


@pytest.mark.nightly
def test_runs_under_way_are_opened_and_those_that_ended_stay_unfolded(page: Page, site: Site) -> None:
    page.goto("/studies/2")
    expect(page.locator("#run-10")).to_be_hidden()
    page.click("#show-ended")
    expect(page.locator("#run-10")).to_be_visible()
    with site.database.transaction() as session:
        filled.succeed(session, runs.get(session, 16))
    expect(page.locator("#progress")).to_contain_text("7 of 15 runs done")
    expect(page.locator("#run-16")).to_be_visible()
    page.click("#run-10")
    page.wait_for_url("**/runs/10")
    page.goto("/studies/2")
    page.click("#run-17")
    page.wait_for_url("**/runs/17")


def test_a_lost_seed_leads_to_its_run(page: Page) -> None:
    page.goto("/studies/3")
    page.click("#lost-25")
    expect(page.locator("h1")).to_have_text("Run 25 failed: out of memory")


def test_tasks_and_months_move_what_is_drawn(page: Page) -> None:
    page.goto("/studies/1")
    page.fill("#tasks", "40")
    page.fill("#gib_month", "2")
    page.fill("#months", "24")
    page.click("#break-even-go")
    expect(page).to_have_url(re.compile("tasks=40.*months=24"))
    two_years = page.locator("#break-even table").inner_text()
    expect(page.locator("#break-even table")).to_contain_text("40")
    page.fill("#months", "1")
    page.press("#months", "Enter")
    expect(page).to_have_url(re.compile("months=1(&|$)"))
    expect(page.locator("#months")).to_have_value("1")
    assert page.locator("#break-even table").inner_text() != two_years


@pytest.mark.nightly
@pytest.mark.parametrize(("by", "title"), [("tokens", "okens"), ("step", "ptimizer step")])
def test_curves_are_drawn_by_tokens_and_by_steps(page: Page, by: str, title: str) -> None:
    page.goto("/studies/1?curve=rate&by=epoch")
    page.select_option("#by", by)
    expect(page.locator("#over-training .chart .wide")).to_contain_text(title)
    page.select_option("#curve", "loss")
    expect(page.locator("#over-training figcaption")).to_contain_text("loss")
