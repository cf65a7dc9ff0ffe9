"""The main job by browser: a study submitted by the form and watched to its verdict, on real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from app.services import datasets as dataset_service
from app.store.files import Files
from app.store.session import Database
from tests import tiny_lm
from tests.whole import Whole, prepare, register_model, start

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


@pytest.fixture
def with_language_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Whole]:
    """The same with a tiny GPT-2, a tiny T5, pairs to learn from and texts to forget."""
    settings = prepare(tmp_path, monkeypatch)
    for kind in ("gpt2", "t5"):
        tiny_lm.save_model(tmp_path / kind, kind)
    database = Database(settings.database)
    with database.transaction() as session:
        for name, form, rows in (
            ("counting", "prompt-completion", tiny_lm.pairs()),
            ("counted", "text", tiny_lm.texts()),
        ):
            files = Files(settings.files)
            dataset_service.register(session, files, name=name, title=name.title(), form=form, rows=rows)
    database.dispose()
    with start(settings) as found:
        for kind in ("gpt2", "t5"):
            register_model(found.api, kind, tmp_path / kind)
        yield found


@pytest.mark.parametrize(
    ("model", "task", "metric"), [("gpt2", "causal-lm", "token_accuracy"), ("t5", "seq2seq-lm", "rouge_l")]
)
def test_a_study_of_a_language_model_goes_from_the_form_to_its_verdict(
    with_language_models: Whole, chromium: Browser, model: str, task: str, metric: str
) -> None:
    whole = with_language_models
    context = chromium.new_context(base_url=whole.stack.url, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto("/studies/new")
    page.locator(f"input[name=base_model][value={model}]").check()
    page.locator("input[name=dataset][value=counting]").check()
    expect(page.locator(f"input[name=task][value={task}]")).to_have_count(1)
    page.get_by_label("General text").select_option("counted")
    remove = page.get_by_role("button", name="Remove head only")
    if remove.count():  # a linear probe is for classification
        remove.click()
        expect(remove).to_have_count(0)
    page.get_by_label("Name of the study").fill(f"Counting with {model}")
    page.get_by_label("max_length").fill("24")
    page.get_by_label("max_new_tokens").fill("8")  # of the 64 positions, which the usual 64 would take all
    page.get_by_label("Seeds").fill("2")
    page.get_by_label("Seeds").press("Tab")
    page.get_by_role("button", name="Start 4 runs").click()
    page.wait_for_url("**/studies/1")
    expect(page.locator(".verdict h1")).to_contain_text("full fine-tuning", timeout=200_000)
    expect(page.get_by_role("region", name="Progress")).to_have_count(0, timeout=120_000)
    found = whole.api.get("/studies/1/comparison").json()
    assert found["metric"] == metric
    assert [arm["runs"] for arm in found["arms"]] == [{"succeeded": 2}] * 2
    assert all(arm["forgetting"] is not None for arm in found["arms"])
    context.close()
