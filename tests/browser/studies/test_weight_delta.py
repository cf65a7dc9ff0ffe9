"""Weight deltas on the pages of studies and runs: the choices are in the address, with scripts and without."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site

pytestmark = pytest.mark.slow


@pytest.mark.nightly
def test_the_map_follows_the_choices_and_the_address_keeps_them(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/studies/1/weights?sort=-memory")
    section = page.locator("#weights")
    page.click("#show-by-matrix")
    expect(section.locator("figcaption").nth(1)).to_contain_text("full, effective rank")
    section.locator("#matrices-arm").select_option("LoRA r=8")
    expect(section.locator("figcaption").nth(1)).to_contain_text("LoRA r=8, effective rank")
    section.locator("#matrices-measure").select_option("norm-ratio")
    expect(section.locator("figcaption").nth(1)).to_contain_text("LoRA r=8, ‖ΔW‖ / ‖W‖")
    assert "matrices=norm-ratio" in page.url
    assert "matrices_arm=LoRA" in page.url
    assert "sort=-memory" in page.url
    page.reload()
    expect(section.locator("#matrices-measure")).to_have_value("norm-ratio")
    page.go_back()
    expect(section.locator("figcaption").nth(1)).to_contain_text("effective rank")
