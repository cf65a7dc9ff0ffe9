"""Chromium complains of nothing in what it may open beside the pages, and a policy that is broken is noticed. That it
complains of no page is tested by `test_accessibility.py`, which opens them all."""

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.complaints import Complaints
from tests.browser.conftest import Site
from tests.browser.site.test_accessibility import UNFOLD

pytestmark = pytest.mark.slow

FILES = ("/studies/1/charts/trade-off.svg", "/studies/1/report.html", "/api/v1/studies/1/report", "/api/v1/runs")


def test_no_file_breaks_its_policy_or_logs_an_error(page: Page) -> None:
    complaints, found = Complaints(page), dict[str, list[str]]()
    for path in FILES:
        with complaints.collected() as heard:
            answer = page.goto(path)
            assert answer is not None and answer.ok
            if answer.header_value("content-type") == "text/html; charset=utf-8":
                page.evaluate(UNFOLD)
        found[path] = heard
    assert not any(found.values()), found


def test_a_policy_that_is_broken_is_noticed(site: Site, chromium: Browser) -> None:
    context = chromium.new_context(base_url=site.url)
    page = context.new_page()
    with Complaints(page).collected() as heard:
        page.goto("/studies")
        page.evaluate("document.body.insertAdjacentHTML('beforeend', `<p style='color: red'>x</p>`)")
        page.evaluate("document.body.insertAdjacentHTML('beforeend', `<b id='handled' onclick='alert()'>y</b>`)")
        page.evaluate("document.getElementById('handled').click()")
    context.close()
    assert any(line.startswith("policy: style-src-attr") for line in heard), heard
    assert any(line.startswith("policy: script-src-attr") for line in heard), heard
