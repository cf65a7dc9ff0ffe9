"""The module tree in a browser: ticks are counted at once, by keyboard too, and taken into a new study."""

import pytest
from playwright.sync_api import Page, expect

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
