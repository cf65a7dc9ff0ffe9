"""The main job by browser: a study submitted by the form and watched to its verdict, on real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.whole import Whole, prepare, start

pytestmark = pytest.mark.slow


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Whole]:
    with start(prepare(tmp_path, monkeypatch)) as found:
        yield found


def test_a_study_is_submitted_by_the_form_and_watched_to_its_verdict(whole: Whole, chromium: Browser) -> None:
    context = chromium.new_context(base_url=whole.stack.url, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto("/studies/new")
    page.get_by_label("Name of the study").fill("By the form")
    page.get_by_label("max_length").fill("16")
    page.get_by_label("Seeds").fill("2")
    page.get_by_label("Seeds").press("Tab")
    page.get_by_role("button", name="Start 6 runs").click()
    page.wait_for_url("**/studies/1")
    expect(page.get_by_role("region", name="Progress")).to_be_visible()
    # No reload by the test: the page is told by server-sent events.
    expect(page.locator(".verdict h1")).to_contain_text("full fine-tuning", timeout=200_000)
    expect(page.get_by_role("region", name="Progress")).to_have_count(0, timeout=120_000)
    found = whole.api.get("/studies/1/comparison").json()
    assert [arm["runs"] for arm in found["arms"]] == [{"succeeded": 2}] * 3
    # The button for more seeds is there only where they would decide, which such a short training does not promise.
    assert whole.api.post("/studies/1/seeds", json={"count": 2}).is_success
    page.reload()
    expect(page.get_by_role("region", name="Progress")).to_be_visible()
    assert whole.api.get("/studies/1").json()["spec"]["seeds"] == [0, 1, 2, 3]
    context.close()
