"""What a study's page offers beside its charts: its ways on, its contents, its files, its runs and its buttons."""

import re

import pytest
from playwright.sync_api import Page, expect

from app.store.runs import queries as runs
from tests.browser.conftest import Site
from tests.support.filled import filled

pytestmark = pytest.mark.slow


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


def test_tasks_and_months_move_what_is_drawn(page: Page) -> None:
    page.goto("/studies/1")
    page.click("#to-costs")
    page.click("#show-prices")
    page.fill("#tasks", "40")
    page.fill("#gib_month", "2")
    page.fill("#months", "24")
    page.click("#break-even-go")
    expect(page).to_have_url(re.compile("tasks=40.*months=24"))
    page.click("#show-break-even")
    two_years = page.locator("#break-even table").inner_text()
    expect(page.locator("#break-even table")).to_contain_text("40")
    page.fill("#months", "1")
    page.press("#months", "Enter")
    expect(page).to_have_url(re.compile("months=1(&|$)"))
    expect(page.locator("#months")).to_have_value("1")
    assert page.locator("#break-even table").inner_text() != two_years
