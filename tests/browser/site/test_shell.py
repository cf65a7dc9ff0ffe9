"""What stands around pages: the navigation, the ways back, the colours, and lists that go on."""

import re

import pytest
from playwright.sync_api import Page, expect

from app.features.elsewhere.services import imports
from tests.browser.conftest import Site
from tests.support.filled import filled
from tests.support.rows.imported_results import peft_files

pytestmark = pytest.mark.slow

PLACES = {"Studies": "/studies", "Runs": "/runs", "Data": "/data", "Models": "/models", "Workers": "/workers"}
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
def test_every_entry_of_the_navigation_leads_to_its_page_and_is_marked_there(page: Page) -> None:
    page.goto("/runs/words")
    main = page.get_by_role("navigation", name="Main")
    for name, path in PLACES.items():
        main.get_by_role("link", name=name, exact=True).click()
        page.wait_for_url(f"**{path}")
        expect(page.locator("h1")).to_have_text(name)
        expect(main.locator("[aria-current]")).to_have_text(name)
    page.locator("a.brand").click()
    page.wait_for_url("**/studies")
    page.click("#worker-state")
    page.wait_for_url("**/workers")


@pytest.mark.nightly
def test_the_help_leads_to_places_too(page: Page) -> None:
    for name, path in PLACES.items():
        page.goto("/imports")
        page.keyboard.press("?")
        page.get_by_role("dialog").get_by_role("link", name=name, exact=True).click()
        page.wait_for_url(f"**{path}")


@pytest.mark.nightly
def test_the_ways_back_lead_where_they_say(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        imports.add_results(session, imports.read_files(peft_files()), "MetaMathQA")
    for address, name, path in BACK:
        page.goto(address)
        page.locator(".crumbs").get_by_role("link", name=name, exact=True).click()
        expect(page).to_have_url(re.compile(re.escape(path) + "$"))
        expect(page.locator("h1")).to_have_count(1)


def test_a_page_that_is_not_there_leads_on(page: Page) -> None:
    for name, path in (("Studies", "/studies"), ("Runs", "/runs")):
        page.goto("/runs/9999")
        page.get_by_role("main").get_by_role("link", name=name, exact=True).click()
        expect(page.locator("h1")).to_have_text(name)
        assert page.url.endswith(path)


def test_older_studies_follow_and_the_newest_come_back(page: Page, site: Site) -> None:
    one_seed = filled.three_arms().model_copy(update={"seeds": [0]})
    with site.database.transaction() as session:
        for number in range(22):
            filled.add_study(session, one_seed.model_copy(update={"name": f"Study {number}"}), hours_ago=1.0)
    page.goto("/studies")
    rows = page.locator("table.studies tbody tr")
    newer = rows.locator("strong").all_inner_texts()
    page.get_by_role("link", name="Older studies").click()
    expect(rows).to_have_count(1)
    assert len(newer) == 25
    expect(rows).to_contain_text("BBC headlines on MiniLM-L6")
    rows.get_by_role("link").click()
    page.wait_for_url("**/studies/1")
    page.goto("/studies?after=1")
    page.get_by_role("link", name="Newest studies").click()
    expect(rows).to_have_count(25)


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
