"""The playground in a browser: labels and streamed texts side by side, tokens by keyboard, the address as the state."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from app.broker.exchange import Reader
from app.services.runs import predictions
from app.store.tables import RunRow
from tests.browser.accessibility import SCREENS, Theme, violations
from tests.browser.conftest import Site
from tests.support import prediction_files
from tests.support.fakes.inference import Answer, FakeExchange, classified, written
from tests.support.filled.language import fill_language

pytestmark = pytest.mark.slow
PROBABILITIES = {"business": 0.02, "entertainment": 0.38, "politics": 0.01, "sport": 0.02, "tech": 0.57}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], FakeExchange]:
    """Puts a worker behind the application that answers at once."""

    def put(answer: Answer) -> FakeExchange:
        fake = FakeExchange(answer)
        monkeypatch.setattr(Reader, "ask", lambda _self, request_id, body: fake.ask(request_id, body))
        return fake

    return put


@pytest.fixture
def writer(site: Site) -> int:
    """A run of a language model that has succeeded."""
    with site.database.transaction() as session:
        fill_language(session)
    with site.database.reading() as session:
        query = select(RunRow.id).where(RunRow.task == "causal-lm", RunRow.status == "succeeded")
        found = session.scalars(query.order_by(RunRow.id)).first()
    assert found is not None
    return found


@pytest.mark.nightly
def test_a_text_is_classified_without_leaving_the_page_and_the_address_has_it(page: Page, worker: Any) -> None:
    worker(classified("tech", PROBABILITIES))
    page.goto("/playground?model=2")
    page.get_by_label("Text").fill("Bond game fails")
    page.check("input[value=base]")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#answer h2")).to_have_text("The answer is tech")
    assert "text=Bond%20game%20fails" in page.url and "model=base" in page.url
    page.reload()
    expect(page.locator(".lane")).to_have_count(2)


def test_texts_are_streamed_and_their_first_difference_is_marked(page: Page, worker: Any, writer: int) -> None:
    worker(written("one", "two", "three"))
    page.goto(f"/playground?model=base&model={writer}")
    page.get_by_label("Prompt").fill("Count")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#answer h2")).to_have_text("First difference at token 3")
    expect(page.locator(".lanes .tok.apart")).to_have_text([" three", " otherwise"])
    expect(page.locator("[data-candidates] tbody tr")).to_have_count(2)
    lane = page.locator("[data-tokens]").first
    lane.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("[data-note]").first).to_contain_text('" two": 0.90')
    page.keyboard.press("End")
    expect(page.locator("[data-note]").first).to_contain_text('" three": 0.90 (" three" 0.90; " perhaps" 0.08)')


def test_an_item_that_flips_opens_with_its_label_and_leads_to_the_next(
    site: Site, page: Page, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "CACHE", predictions.Cache())
    fake = worker(classified("tech", PROBABILITIES))
    with site.database.transaction() as session:
        prediction_files.add_to_study(session, site.files, 1)
    page.goto("/studies/1/flips")
    first = page.locator(".flip-items tbody th").first.inner_text().split("\n")[0]
    page.click("#try-items")
    expect(page.locator("#text")).to_have_value(first)
    expect(page.locator(".toolbar .aside")).to_contain_text("True label:")
    page.click("#next-flip")
    expect(page.locator("#text")).not_to_have_value(first)
    assert len({str(request.inputs[0]) for request in fake.requests}) == 2


@pytest.mark.nightly
@pytest.mark.parametrize(("width", "themes"), SCREENS)
def test_it_is_accessible(page: Page, worker: Any, writer: int, width: int, themes: Sequence[Theme]) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    worker(written("one", "two"))
    page.goto(f"/playground?model=base&model={writer}&text=Count")
    expect(page.locator("[data-candidates] tbody tr")).to_have_count(2)
    assert violations(page, themes) == []
    worker(classified("tech", PROBABILITIES))
    page.goto("/playground?model=base&model=2&text=Bond+game")
    assert violations(page, themes) == []
