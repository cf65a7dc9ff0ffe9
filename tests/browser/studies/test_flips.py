"""The flips in a browser: counts lead to items, the filter narrows them, long texts unfold, nothing is lost without
scripts; and both pages are accessible."""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Page, expect

from app.services.runs import predictions
from app.store.runs import queries as runs
from tests.browser.accessibility import SCREENS, Theme, violations
from tests.browser.conftest import Site
from tests.support import prediction_files

pytestmark = pytest.mark.slow

LONG = "word " * 300


@pytest.fixture
def flips(site: Site, page: Page, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A window on the flips of a finished study."""
    monkeypatch.setattr(predictions, "CACHE", predictions.Cache())
    with site.database.transaction() as session:
        prediction_files.add_to_study(session, site.files, 1)
    page.goto("/studies/1/errors")
    page.click("#all-flips")
    expect(page.locator("h1")).to_have_text("Full right, LoRA r=8 wrong")
    yield page


def test_a_count_leads_to_its_items_and_the_cell_is_marked(flips: Page) -> None:
    cell = flips.get_by_role("link", name=re.compile("full wrong, head only right:"))
    number = cell.inner_text()
    cell.click()
    expect(flips.locator("h1")).to_have_text("Full wrong, head only right")
    expect(flips.locator(".count")).to_have_text(f"{number} items")
    expect(flips.locator(".flip-counts [aria-current]")).to_have_text(number)


def test_the_filter_narrows_keeps_the_kind_and_is_cleared(flips: Page) -> None:
    flips.goto("/studies/1/flips?arm=LoRA+r%3D8&kind=any")
    flips.fill("input[name=q]", "goalkeeper")
    flips.select_option("select[name=label]", "politics")
    flips.select_option("select[name=length]", "1")
    flips.select_option("select[name=sure]", "2")
    flips.select_option("select[name=seed]", "1")
    flips.get_by_role("button", name="Filter").click()
    expect(flips).to_have_url(re.compile(r"kind=any.*q=goalkeeper.*seed=1.*label=politics.*length=1.*sure=2"))
    expect(flips.locator("main")).to_contain_text("Seed 1 alone")
    rows = flips.locator(".flip-items tbody tr")
    assert rows.count() > 0
    for text in rows.locator("th").all_inner_texts():
        assert "goalkeeper" in text
    expect(flips.locator("select[name=length]")).to_have_value("1")
    flips.get_by_role("link", name="Clear").click()
    expect(flips.locator(".count")).to_have_text("646 items")
    expect(flips).to_have_url(re.compile("seed=1"))


def test_a_long_text_unfolds_by_mouse_and_by_keyboard(flips: Page, site: Site) -> None:
    with site.database.transaction() as session:
        for run in runs.of_study(session, 1):
            path = Path(site.files.root) / f"runs/{run.id}/1/predictions.parquet"
            table = pq.read_table(path)
            long = table.set_column(1, "text", pa.array([f"{n} {LONG}" for n in range(table.num_rows)]))
            buffer = io.BytesIO()
            pq.write_table(long, buffer)
            prediction_files.store_bytes(session, site.files, run, buffer.getvalue())
    flips.reload()
    text = flips.locator("details.long-text").first
    expect(text).not_to_have_attribute("open", "")
    text.locator("summary").click()
    expect(text.locator("p")).to_be_visible()
    expect(text.locator(".dots")).to_be_hidden()
    flips.locator("h1").click()
    flips.keyboard.press("j")
    expect(text.locator("summary")).to_be_focused()
    flips.keyboard.press("Enter")
    expect(text.locator("p")).to_be_hidden()


@pytest.mark.nightly
@pytest.mark.parametrize(("width", "themes"), SCREENS)
def test_the_page_is_accessible_and_fits(flips: Page, width: int, themes: Sequence[Theme]) -> None:
    flips.set_viewport_size({"width": width, "height": 800})
    for path in ("/studies/1/flips", "/studies/1/flips?q=nothing+like+that", "/studies/3/flips"):
        flips.goto(path)
        wider = flips.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0, path
        found = [(theme, v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for theme, v in violations(flips, themes)]
        assert found == [], path
