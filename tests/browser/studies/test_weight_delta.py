"""Weight deltas on the pages of studies and runs: the choices are in the address, with scripts and without."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site

pytestmark = pytest.mark.slow


@pytest.mark.nightly
def test_the_map_follows_the_choices_and_the_address_keeps_them(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/studies/1?sort=-memory")
    section = page.locator("#weight-delta")
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


def test_without_scripts_the_choice_is_a_form(site: Site, chromium: Browser) -> None:
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(f"{site.url}/studies/1")
    section = page.locator("#weight-delta")
    section.locator("#matrices-measure").select_option("intruders")
    section.get_by_role("button", name="Show").click()
    expect(page.locator("#weight-delta figcaption").nth(1)).to_contain_text("intruder dimensions")
    assert "matrices=intruders" in page.url
    page.context.close()


def test_the_section_is_reached_from_the_pages_own_contents(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/studies/1")
    page.locator("#to-weight-delta").click()
    expect(page.locator("#weight-delta h2")).to_be_in_viewport()


def test_a_run_unfolds_every_matrix(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/runs/2")
    matrices = page.get_by_role("region", name="Weight delta by matrix")
    expect(matrices).to_be_hidden()
    page.locator("#show-every-matrix").click()
    expect(matrices.get_by_role("row")).to_have_count(13)


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_page(site: Site, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for path in ("/studies/1", "/runs/1"):
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
