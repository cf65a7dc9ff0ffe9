"""A study's report opened as a file, without a network: it asks for nothing, fits the screen, and prints on A4."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.accessibility import violations
from tests.browser.conftest import Site
from tests.support import prediction_files
from tests.support.filled.language import fill_language

pytestmark = pytest.mark.slow

A4 = (595, 842)
PRINTED_WIDTH = 695
"""Pixels of an A4 sheet between its margins."""
WIDER = """[...document.querySelectorAll('main *')].filter(e =>
    e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !e.closest('svg')
    && !e.closest('.table-scroll')).map(e => e.outerHTML.slice(0, 90))"""
CUT = "[...document.querySelectorAll('.table-scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.id)"


@pytest.fixture(params=[1, 5])
def file(site: Site, request: pytest.FixtureRequest, tmp_path: Path, page: Page) -> Path:
    """The report of a study of labels and of one of generated texts, kept in a file."""
    with site.database.transaction() as session:
        fill_language(session)
        prediction_files.add_to_study(session, site.files, 1)
    answer = page.request.get(f"/studies/{request.param}/report.html")
    found = tmp_path / "report.html"
    found.write_bytes(answer.body())
    return found


def opened(chromium: Browser, file: Path, width: int, complaints: list[str]) -> Page:
    """The file in a window that has no network; what it asks for and what the browser says are complaints."""
    context = chromium.new_context(viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    page.on("request", lambda asked: complaints.append(asked.url) if asked.url != file.as_uri() else None)
    page.on("console", lambda line: complaints.append(line.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    return page


@pytest.mark.nightly
@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_offline_and_fits(chromium: Browser, file: Path, width: int) -> None:
    complaints: list[str] = []
    page = opened(chromium, file, width, complaints)
    assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px IBM Plex Sans'))")
    assert page.evaluate(WIDER) == []
    assert [violation["id"] for _, violation in violations(page)] == []
    page.context.close()
    assert complaints == []


@pytest.mark.nightly
def test_it_prints_on_a4_and_no_table_is_cut(chromium: Browser, file: Path) -> None:
    complaints: list[str] = []
    page = opened(chromium, file, PRINTED_WIDTH, complaints)
    page.emulate_media(media="print")
    assert page.evaluate(CUT) == []
    assert page.evaluate(WIDER) == []
    sections = page.locator("main .section").count()
    printed = page.pdf(prefer_css_page_size=True, print_background=True)
    page.context.close()
    assert complaints == []
    boxes = {
        tuple(round(float(n)) for n in box.split()[2:])
        for box in re.findall(r"/MediaBox \[([^\]]+)\]", printed.decode("latin-1"))
    }
    assert boxes == {A4}
    pages = int(max(re.findall(rb"/Count (\d+)", printed), key=int))
    assert sections - 1 <= pages <= 2 * sections, "a section begins a page, and none runs on for many"
