"""Keys: what each does, that none does anything while one types, and that they can be switched off for good."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import violations
from tests.browser.conftest import Site
from tests.support import prediction_files

pytestmark = pytest.mark.slow


@pytest.fixture
def flips(site: Site, page: Page) -> Iterator[Page]:
    """A window on the flips of a finished study."""
    with site.database.transaction() as session:
        prediction_files.add_to_study(session, site.files, 1)
    page.goto("/studies/1/flips?kind=any")
    yield page


def focused_row(page: Page) -> int:
    """Which row of the list has the keyboard, from 0; −1 for none."""
    found: int = page.evaluate(
        "[...document.querySelectorAll(':is([data-rows], .table.list) > tbody > tr')]"
        ".findIndex(r => r.contains(document.activeElement))"
    )
    return found


def test_a_question_mark_shows_the_keys_and_escape_closes_them(page: Page) -> None:
    page.goto("/studies")
    help_ = page.get_by_role("dialog", name="Keyboard")
    expect(help_).to_have_count(0)
    page.keyboard.press("?")
    expect(help_).to_be_visible()
    expect(help_).to_contain_text("to the next and the previous row")
    assert [violation["id"] for _, violation in violations(page)] == []
    page.keyboard.press("Escape")
    expect(help_).to_have_count(0)


def test_a_button_at_the_foot_shows_them_too_and_takes_the_keyboard_back(page: Page) -> None:
    page.goto("/runs")
    button = page.locator("footer").get_by_role("button", name="Keyboard")
    button.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()


@pytest.mark.parametrize("path", ["/studies", "/runs"])
def test_j_and_k_walk_the_rows_and_enter_opens_one(page: Page, path: str) -> None:
    page.goto(path)
    assert focused_row(page) == -1
    page.keyboard.press("j")
    assert focused_row(page) == 0
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert focused_row(page) == 1
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("k")
    page.keyboard.press("k")
    assert focused_row(page) == 0, "the first row is where k stops"
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"{path}/\d+$"))


def test_k_begins_at_the_end_and_the_row_is_in_view(flips: Page) -> None:
    flips.keyboard.press("k")
    assert focused_row(flips) == 19
    inside = """(() => { const box = document.activeElement.getBoundingClientRect();
        return box.top >= 0 && box.bottom <= innerHeight; })()"""
    assert flips.evaluate(inside)


def test_a_slash_goes_to_the_filter_and_there_keys_are_letters(flips: Page) -> None:
    flips.keyboard.press("/")
    field = flips.locator("input[type=search]")
    expect(field).to_be_focused()
    expect(field).to_have_value("")
    flips.keyboard.type("gs?jk/")
    expect(field).to_have_value("gs?jk/")
    expect(flips.get_by_role("dialog")).to_have_count(0)
    assert flips.url.endswith("/studies/1/flips?kind=any")


@pytest.mark.by_day
@pytest.mark.parametrize(
    ("key", "path"),
    list({"s": "/studies", "r": "/runs", "n": "/studies/new", "d": "/data", "m": "/models", "w": "/workers"}.items()),
)
def test_g_and_a_letter_goes_to_a_page(page: Page, key: str, path: str) -> None:
    page.goto("/imports")
    page.keyboard.press("g")
    page.keyboard.press(key)
    page.wait_for_url(f"**{path}")


def test_a_letter_without_its_g_and_keys_with_ctrl_do_nothing(page: Page) -> None:
    page.goto("/studies")
    page.keyboard.press("r")
    page.keyboard.press("g")
    page.keyboard.press("x")
    page.keyboard.press("r")
    page.keyboard.press("Control+j")
    page.keyboard.press("Alt+j")
    page.wait_for_timeout(200)
    assert page.url.endswith("/studies")
    assert focused_row(page) == -1


def test_keys_that_are_switched_off_stay_off_and_can_be_switched_on(page: Page) -> None:
    page.goto("/studies")
    page.keyboard.press("?")
    page.get_by_role("switch").uncheck()
    page.keyboard.press("Escape")
    for _visit in range(2):
        page.keyboard.press("j")
        page.keyboard.press("?")
        assert focused_row(page) == -1
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.goto("/studies")
    page.locator("footer").get_by_role("button", name="Keyboard").click()
    expect(page.get_by_role("switch")).not_to_be_checked()
    page.get_by_role("switch").check()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert focused_row(page) == 0


def test_without_scripts_there_is_no_button(site: Site, page: Page) -> None:
    assert page.context.browser is not None
    context = page.context.browser.new_context(java_script_enabled=False, base_url=site.url)
    plain = context.new_page()
    plain.goto("/studies")
    expect(plain.locator("footer [data-keys]")).to_be_hidden()
    expect(plain.locator("#keys")).to_be_hidden()
    context.close()
