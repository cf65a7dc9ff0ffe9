"""The page of a study in which nothing was learned: its questions, its causes, and the studies that they prepare."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import violations
from tests.browser.conftest import Site
from tests.support.filled import learning as filled_learning

pytestmark = pytest.mark.slow


@pytest.fixture
def study(site: Site) -> int:
    with site.database.transaction() as session:
        return filled_learning.add(session)


@pytest.mark.nightly
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_answers_both_questions_within_its_width(page: Page, study: int, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"/studies/{study}")
    expect(page.locator("h1")).to_contain_text("Nothing was learned")
    questions = page.locator(".questions > li")
    expect(questions.nth(0)).to_contain_text("Does fine-tuning help?")
    expect(questions.nth(0).locator(".state")).to_have_text("no")
    expect(questions.nth(1).locator(".state")).to_have_text("not tested")
    expect(page.locator(".verdict figcaption")).to_have_text("No arm is above the best baseline")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page, ("light", "dark")) == []


@pytest.mark.nightly
def test_a_cause_leads_to_the_study_that_removes_it(page: Page, study: int) -> None:
    page.goto(f"/studies/{study}")
    page.click("#to-causes")
    expect(page.locator("#causes h2")).to_be_in_viewport()
    expect(page.locator("#causes .causes > li").first).to_contain_text("Too few steps")
    page.click("#remedy-steps")
    page.wait_for_url(re.compile(rf"/studies/new\?from_study={study}&remedy=steps"))
    expect(page.locator('[name="training.num_train_epochs"]')).to_have_value("8")
    page.go_back()
    page.click("#remedy-max-length")
    expect(page.locator('[name="training.max_length"]')).to_have_value("256")


@pytest.mark.nightly
def test_a_run_of_it_says_what_it_predicts_most_and_that_its_loss_was_falling(page: Page, study: int) -> None:
    page.goto(f"/studies/{study}")
    page.locator("#learning-runs a").first.click()
    expect(page.locator("#learned")).to_contain_text("“positive” for 100.0 % of the test items")
    expect(page.locator("#learned")).to_contain_text("still falling")
