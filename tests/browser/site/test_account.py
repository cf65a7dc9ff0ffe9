"""A browser logs in, creates a token, manages users and logs out; the pages are accessible and fit a narrow screen."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.domain.accounts.policy import Role
from app.services.users import passwords
from app.store.users import queries as users
from tests.browser.accessibility import SCREENS, violations
from tests.browser.conftest import window
from tests.support.rows.accounts import PASSWORD, Installation, installed
from tests.support.servers.served import served

pytestmark = pytest.mark.slow
ADMIN = "admin@example.org"


@pytest.fixture
def closed(tmp_path: Path, filled_file: Path) -> Iterator[tuple[str, Installation]]:
    """The address of a server that requires a login; the admin has a password."""
    with installed(tmp_path, filled_file, lease_seconds=3600) as found:
        stored = passwords.accepted(PASSWORD)
        with found.database.transaction() as session:
            users.get(session, found.ids[Role.ADMIN]).password_hash = stored
        with served(found.app) as url:
            yield url, found


@pytest.fixture
def page(closed: tuple[str, Installation], chromium: Browser) -> Iterator[Page]:
    """A window on the server, without login."""
    with window(chromium, closed[0]) as opened:
        yield opened


def log_in(page: Page, password: str = PASSWORD) -> None:
    page.fill("#email", ADMIN)
    page.fill("#password", password)
    page.click("#sign-in")


def is_accessible(page: Page) -> None:
    """No finding of axe, at any width, and nothing that is wider than the window."""
    for width, themes in SCREENS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, page.url
        assert violations(page, themes) == [], page.url


@pytest.mark.nightly
def test_a_browser_logs_in_and_out(page: Page) -> None:
    page.goto("/runs?sort=-score")
    expect(page.locator("h1")).to_have_text("Log in")
    log_in(page, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("The e-mail address or the password is wrong.")
    is_accessible(page)
    log_in(page)
    page.wait_for_url("**/runs?sort=-score")
    page.click(f"text={ADMIN}")
    expect(page.locator("h1")).to_have_text("Account")
    page.click("#sign-out")
    page.wait_for_url("**/login")
    page.goto("/runs")
    page.wait_for_url("**/login?next=%2Fruns")


@pytest.mark.nightly
def test_an_account_has_tokens_and_sessions(page: Page, closed: tuple[str, Installation]) -> None:
    closed[1].browser(Role.ADMIN)
    page.goto("/account")
    log_in(page)
    page.fill("#name", "laptop")
    page.click("#create-token")
    token = page.locator("#new-token").inner_text()
    assert re.fullmatch(r"vezna_[\w-]{43}", token)
    is_accessible(page)
    page.goto("/account")
    expect(page.locator("body")).not_to_contain_text(token)
    expect(page.locator("#tokens tbody tr")).to_have_count(1)
    expect(page.locator("#sessions tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Revoke laptop").click()
    expect(page.locator("#tokens tbody tr")).to_have_count(0)
    page.click("#end-others")
    expect(page.locator("#sessions tbody tr")).to_have_count(1)
    expect(page.get_by_role("status")).to_contain_text("Every other session has ended.")


@pytest.mark.nightly
def test_an_admin_creates_a_user_who_chooses_a_password(page: Page, chromium: Browser) -> None:
    page.goto("/users")
    log_in(page)
    page.fill("#email", "new@example.org")
    page.select_option("#role", "viewer")
    page.click("#create-user")
    link = page.locator("#new-link").inner_text()
    is_accessible(page)

    guest = chromium.new_context().new_page()
    guest.goto(link)
    guest.click("#save")
    expect(guest.get_by_role("alert")).to_contain_text("The password has 0 characters")
    is_accessible(guest)
    guest.fill("#password", "nine blue umbrellas sing")
    guest.fill("#repeated", "nine blue umbrellas sing")
    guest.click("#save")
    guest.wait_for_url("**/studies")
    expect(guest.locator(".me")).to_have_text("new@example.org")
    expect(guest.locator(".site-header .button")).to_have_count(0)
    guest.context.close()


@pytest.mark.nightly
def test_a_request_that_no_click_began_is_marked(page: Page) -> None:
    """It does not keep the session alive."""
    page.goto("/login")
    log_in(page)
    with page.expect_request(lambda request: request.headers.get("hx-request") == "true") as polled:
        page.goto("/models/distilbert-base")  # which waits for its inspection
    assert polled.value.headers.get("vezna-automatic") == "1"
    page.goto("/studies/1")
    with page.expect_request(lambda request: request.headers.get("hx-request") == "true") as clicked:
        page.locator("th a[hx-get]").first.click()
    assert "vezna-automatic" not in clicked.value.headers
