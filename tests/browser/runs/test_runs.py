"""The list of runs and the notes: every control, with scripts and without."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import update

from app.store.tables import RunRow
from tests.browser.conftest import Site

pytestmark = pytest.mark.slow

ROWS = "table.runs tbody tr"
expect.set_options(timeout=20_000)  # the machine may be busy with other work


@pytest.fixture
def without_scripts(site: Site, chromium: Browser) -> Iterator[Page]:
    """A window in which no script runs."""
    context = chromium.new_context(base_url=site.url, java_script_enabled=False)
    yield context.new_page()
    context.close()


def test_a_filter_is_applied_in_place_and_stands_in_the_address(page: Page) -> None:
    page.goto("/runs?sort=-score")
    page.fill("#filter", "study = 1 and method = lora")
    page.press("#filter", "Enter")
    expect(page.locator("#count")).to_have_text("3 runs")
    expect(page).to_have_url(re.compile(r"filter=study.*sort=-score"))
    expect(page.locator("#filter")).to_be_focused()
    page.go_back()
    expect(page.locator("#count")).to_have_text("37 runs")


def test_a_mistake_is_shown_at_its_place_and_mended(page: Page) -> None:
    page.goto("/runs")
    page.fill("#filter", "failed and acuracy > 0.9")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Column 12: acuracy is not a field. Did you mean accuracy?")
    expect(page.locator("#filter-mistake mark")).to_have_text("acuracy > 0.9")
    expect(page.locator("#filter")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#filter")).to_have_value("failed and acuracy > 0.9")
    page.fill("#filter", "failed")
    page.press("#filter", "Enter")
    expect(page.locator("#count")).to_have_text("1 run")


def test_examples_fill_the_filter_and_clear_empties_it(page: Page) -> None:
    page.goto("/runs?sort=peak")
    page.get_by_role("link", name="failed or cancelled").click()
    expect(page.locator("#filter")).to_have_value("failed or cancelled")
    expect(page.locator("#count")).to_have_text("10 runs")
    page.click("#clear")
    expect(page.locator("#filter")).to_have_value("")
    expect(page).to_have_url(re.compile(r"/runs\?sort=peak$"))
    page.click("#words")
    expect(page.locator("h1")).to_have_text("Filter syntax")
    page.get_by_role("link", name="peak < 2 GiB").click()
    expect(page.locator("#filter")).to_have_value("peak < 2 GiB and train < 5 min")


def test_a_head_sorts_and_turns_round(page: Page) -> None:
    page.goto("/runs?filter=study+%3D+1")
    head = page.get_by_role("columnheader", name="Peak memory")
    head.get_by_role("link").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(page.locator(ROWS).first).to_contain_text("121")
    head.get_by_role("link").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    expect(page.locator(ROWS).first).to_contain_text("403")


def test_groups_open_in_place(page: Page) -> None:
    page.goto("/runs?filter=study+%3D+1")
    page.get_by_role("link", name="everything but the seed").click()
    expect(page.locator("#count")).to_have_text("9 runs in 3 groups")
    page.locator(".toggle", has_text="LoRA r=8").click()
    expect(page.locator(".inside")).to_have_count(3)
    expect(page.locator(".toggle", has_text="LoRA r=8")).to_have_attribute("aria-expanded", "true")
    page.locator(".toggle", has_text="LoRA r=8").click()
    expect(page.locator(".inside")).to_have_count(0)
    page.get_by_role("link", name="nothing", exact=True).click()
    expect(page.locator("#count")).to_have_text("9 runs")


def test_everything_works_without_scripts(without_scripts: Page) -> None:
    page = without_scripts
    page.goto("/runs?group=seed")
    page.fill("#filter", "study = 1")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.locator("#count")).to_have_text("9 runs in 3 groups")
    page.locator(".toggle", has_text="full").click()
    expect(page.locator(".inside")).to_have_count(3)
    page.goto("/studies/1/notes")
    page.fill("#note", "Kept without scripts")
    page.click("#save-notes")
    expect(page.locator("#notes .note")).to_have_text("Kept without scripts")


@pytest.mark.nightly
@pytest.mark.parametrize("address", ["/runs/2", "/studies/1"])
def test_a_note_is_written_in_its_place(page: Page, address: str) -> None:
    page.goto(address)
    page.click("#edit-notes")
    page.fill("#note", "First line\nsecond")
    page.fill("#tags", "paper, " + "x" * 41)
    page.click("#save-notes")
    expect(page.locator("#notes .error")).to_contain_text("is longer than 40 characters")
    expect(page.locator("#note")).to_have_value("First line\nsecond")
    page.fill("#tags", "paper")
    page.click("#save-notes")
    expect(page.locator("#notes .note")).to_have_text("First line\nsecond")
    expect(page).to_have_url(re.compile(f"{address}$"))
    page.locator("#notes .chip", has_text="paper").click()
    expect(page.locator("#filter")).to_have_value('tag = "paper"')
    expect(page.locator("#count")).to_have_text("1 run" if "runs" in address else "9 runs")


def test_the_name_of_a_run_stays_while_its_numbers_scroll(site: Site, chromium: Browser) -> None:
    context = chromium.new_context(base_url=site.url, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto("/runs")
    region = page.get_by_role("region", name="Runs")
    region.evaluate("element => { element.scrollLeft = 300 }")
    box = page.get_by_role("link", name="Run 37", exact=True).bounding_box()
    assert box is not None and 0 <= box["x"] < 120
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("group", ["", "seed"])
def test_a_name_has_its_arrow_and_no_empty_line_and_lies_over_no_number(
    site: Site, chromium: Browser, width: int, group: str
) -> None:
    with site.database.transaction() as session:
        session.execute(update(RunRow).where(RunRow.id == 2).values(trial_round=0, arm="A name that is " * 4))
        session.execute(update(RunRow).where(RunRow.id == 5).values(arm="one_word_without_a_single_space_in_it_at_all"))
    context = chromium.new_context(base_url=site.url, viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(f"/runs?group={group}&sort=score")
    rows = page.evaluate(
        """() => [...document.querySelectorAll('table.runs tbody tr')].map((row) => {
            const name = row.querySelector('.run-name'), cell = row.querySelector('th').getBoundingClientRect()
            const seen = [...name.children].filter((e) => getComputedStyle(e).opacity !== '0')
            const boxes = seen.map((e) => e.getBoundingClientRect()).sort((a, b) => a.top - b.top)
            let end = name.getBoundingClientRect().top, gap = 0
            for (const box of boxes) { gap = Math.max(gap, box.top - end); end = Math.max(end, box.bottom) }
            gap = Math.max(gap, name.getBoundingClientRect().bottom - end)
            const toggle = name.querySelector('.toggle')
            return {
                gap, over: Math.max(...boxes.map((box) => box.right)) - cell.right,
                arrow: toggle && parseFloat(getComputedStyle(toggle, '::before').width),
            }
        })"""
    )
    assert len(rows) > 5
    assert max(row["gap"] for row in rows) < 10
    assert max(row["over"] for row in rows) <= 0
    assert all(row["arrow"] and row["arrow"] > 5 for row in rows) if group else True
    context.close()
