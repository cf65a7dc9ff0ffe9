"""The module tree in a browser: ticks are counted at once, by keyboard too, and taken into a new study."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site

pytestmark = pytest.mark.slow

MODEL = "/models/all-MiniLM-L6-v2"


@pytest.mark.nightly
def test_a_tick_is_counted_at_once_and_stands_in_the_address(page: Page) -> None:
    page.goto(MODEL)
    count = page.locator("#modules-count")
    expect(count).to_contain_text("LoRA r=8 trains 338,690 parameters")
    key = page.get_by_role("checkbox", name="key")
    expect(page.locator(".leaf", has=key).locator(".trains")).to_contain_text("36,864")
    key.focus()
    page.keyboard.press("Space")
    expect(count).to_contain_text("301,826 parameters")
    expect(key).to_be_focused()
    page.get_by_label("Rank").fill("16")
    expect(count).to_contain_text("LoRA r=16 trains 602,882 parameters")
    page.reload()
    expect(count).to_contain_text("LoRA r=16 trains 602,882 parameters")
    expect(key).not_to_be_checked()


def test_another_method_begins_with_its_own_choice(page: Page) -> None:
    page.goto(f"{MODEL}?ticked=1&module=bert.pooler.dense")
    page.locator("#tree-method").select_option("ia3")
    expect(page.locator("#modules-count")).to_contain_text("(IA)³ trains")
    expect(page.get_by_role("checkbox", name="pooler.dense")).not_to_be_checked()
    page.locator("#tree-method").select_option("full")
    expect(page.locator("#modules").get_by_role("checkbox")).to_have_count(0)
    expect(page.locator("#modules-count")).to_contain_text("22,713,986")


def test_a_choice_is_taken_into_a_new_study(page: Page) -> None:
    page.goto(MODEL)
    page.locator("#modules").get_by_role("button", name="none of bert", exact=True).click()
    expect(page.locator("#modules-count")).to_contain_text("No layer is ticked")
    page.locator("summary", has_text="encoder.layer").click()
    page.locator("summary", has_text="attention").click()
    page.locator("summary", has_text="self").click()
    page.get_by_role("checkbox", name="key").check()
    page.get_by_role("link", name="Use in a new study").click()
    expect(page).to_have_url(page.url)
    expect(page.locator("#study-form")).to_contain_text("LoRA r=8")
    assert page.locator("[name='arms.1.method.target_modules']").input_value() == "key"


@pytest.mark.parametrize("width", [1280, 390])
def test_without_scripts_the_form_does_the_same(site: Site, chromium: Browser, width: int) -> None:
    context = chromium.new_context(
        base_url=site.url, java_script_enabled=False, viewport={"width": width, "height": 800}
    )
    page = context.new_page()
    page.goto(MODEL)
    page.locator("#modules summary", has_text="attention").first.focus()
    page.get_by_role("checkbox", name="key").uncheck()
    page.get_by_role("button", name="Compute", exact=True).click()
    expect(page.locator("#modules-count")).to_contain_text("301,826 parameters")
    page.get_by_role("button", name="all layers of bert", exact=True).click()
    expect(page.locator("#modules-count")).to_contain_text("target_modules: all-linear")
    context.close()
