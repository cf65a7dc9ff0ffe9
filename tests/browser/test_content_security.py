"""Chromium complains of nothing on any page: no breach of the content security policy, no error of a script, no
missing file."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage

from tests import filled_estimates
from tests.browser.conftest import Site
from tests.browser.pages import everything
from tests.browser.test_accessibility import UNFOLD

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # sixty pages, which take minutes on a busy machine

REPORTS = (
    "addEventListener('securitypolicyviolation', e => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`))"
)
FILES = ("/studies/1/charts/trade-off.svg", "/studies/1/report.html", "/api/v1/studies/1/report", "/api/v1/runs")
"""What a browser may open beside the pages."""


def test_no_page_breaks_its_policy_or_logs_an_error(site: Site, chromium: Browser, tmp_path: Path) -> None:
    pages = everything(site, tmp_path) | {path: path for path in FILES}
    found: list[str] = []
    context = chromium.new_context(base_url=site.url, viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.add_init_script(REPORTS)
    context.set_default_navigation_timeout(180_000)  # of a busy machine; the test itself has a limit
    page = context.new_page()
    where = ""

    def heard(message: ConsoleMessage) -> None:
        # a file has no icon of its own, so that the browser looks for one at its usual place
        if message.type in ("error", "warning") and not message.location["url"].endswith("/favicon.ico"):
            found.append(f"{where}: {message.text}")

    page.on("console", heard)
    page.on("pageerror", lambda error: found.append(f"{where}: {error}"))
    while filled_estimates.answer_requests(site.database):
        pass
    for name, path in pages.items():
        where = name
        answer = page.goto(path)
        assert answer is not None
        if answer.status >= 400:  # Chromium logs that the page itself is an error
            found = [line for line in found if not line.startswith(f"{name}: Failed to load resource")]
        if answer.header_value("content-type") in ("text/html; charset=utf-8",):
            page.evaluate(UNFOLD)
        page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    context.close()
    assert found == [], "\n".join(found)


def test_a_policy_that_is_broken_is_noticed(site: Site, chromium: Browser) -> None:
    context = chromium.new_context(base_url=site.url)
    context.add_init_script(REPORTS)
    context.set_default_navigation_timeout(180_000)
    page = context.new_page()
    lines: list[str] = []
    page.on("console", lambda message: lines.append(message.text))
    page.goto("/studies")
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p><img src=x onerror=alert()>')"
    )
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    context.close()
    assert any(line.startswith("policy: style-src-attr") for line in lines), lines
    assert any(line.startswith("policy: script-src-attr") for line in lines), lines
