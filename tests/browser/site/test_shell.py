"""What stands around pages: the navigation, the ways back, the colours, and lists that go on."""

import re

import pytest
from playwright.sync_api import Page, expect

from app.features.elsewhere.services import imports
from tests.browser.conftest import Site
from tests.support.rows.imported_results import peft_files

pytestmark = pytest.mark.slow
BACK = [
    ("/studies/new", "Studies", "/studies"),
    ("/studies/1", "Studies", "/studies"),
    ("/studies/1/flips", "Studies", "/studies"),
    ("/studies/1/flips", "1 · BBC headlines on MiniLM-L6", "/studies/1"),
    ("/studies/1/arms/new", "1 · BBC headlines on MiniLM-L6", "/studies/1"),
    ("/studies/1/notes", "Back", "/studies/1"),
    ("/runs/2", "Runs", "/runs"),
    ("/runs/2", "BBC headlines on MiniLM-L6", "/studies/1"),
    ("/runs/39", "MetaMathQA", "/compare?collection=1&sort=-score"),
    ("/runs/words", "Runs", "/runs"),
    ("/compare?runs=1,2", "Runs", "/runs"),
    ("/compare", "Runs", "/runs"),
    ("/imports", "Runs", "/runs"),
    ("/models/all-MiniLM-L6-v2/map", "all-MiniLM-L6-v2", "/models/all-MiniLM-L6-v2"),
    ("/models/all-MiniLM-L6-v2/map", "Models", "/models"),
]


@pytest.mark.nightly
def test_the_ways_back_lead_where_they_say(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        imports.add_results(session, imports.read_files(peft_files()), "MetaMathQA")
    for address, name, path in BACK:
        page.goto(address)
        page.locator(".crumbs").get_by_role("link", name=name, exact=True).click()
        expect(page).to_have_url(re.compile(re.escape(path) + "$"))
        expect(page.locator("h1")).to_have_count(1)


@pytest.mark.nightly
def test_light_stays_light_where_the_system_is_dark_and_another_window_follows(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto("/studies")
    other = page.context.new_page()
    other.emulate_media(color_scheme="dark")
    other.goto("/runs")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_label("Light").check()
    assert page.evaluate(ground) != dark
    expect(other.locator("html")).to_have_attribute("data-theme", "light")
    page.reload()
    expect(page.get_by_label("Light")).to_be_checked()
    assert page.evaluate(ground) != dark
