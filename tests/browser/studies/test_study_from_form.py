"""The main job by browser: studies submitted by the form and watched to their verdicts, on real processes."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from app.services.data import datasets as dataset_service
from app.store.database.session import Database
from app.store.files.files import Files
from tests.support.servers.running_stack import RunningStack, prepare, start
from tests.support.tiny import lm as tiny_lm

pytestmark = pytest.mark.slow

MODELS = {"tiny": "sequence-classification", "gpt2": "causal-lm", "t5": "seq2seq-lm"}
"""Each with its task."""


@pytest.fixture(scope="module")
def vezna(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A tiny BERT, GPT-2 and T5, labelled texts, pairs to learn from and texts to forget."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        settings = prepare(folder, patch)
        for kind in ("gpt2", "t5"):
            tiny_lm.save_model(folder / kind, kind)
        database = Database(settings.database)
        with database.transaction() as session:
            for name, form, rows in (
                ("counting", "prompt-completion", tiny_lm.pairs()),
                ("counted", "text", tiny_lm.texts()),
            ):
                files = Files(settings.files)
                dataset_service.register(session, files, name=name, title=name.title(), form=form, rows=rows)
        database.dispose()
        with start(settings, models=tuple(MODELS)) as found:
            yield found


@pytest.fixture
def page(vezna: RunningStack, chromium: Browser) -> Iterator[Page]:
    """A window on those processes."""
    context = chromium.new_context(base_url=vezna.stack.url, viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def plan(page: Page, model: str, dataset: str) -> None:
    """The form of a new study, begun for the classifier and given this model and data."""
    page.goto("/studies/new?base_model=tiny&dataset=small")
    page.locator(f"input[name=base_model][value={model}]").check()
    page.locator(f"input[name=dataset][value={dataset}]").check()
    expect(page.locator(f"input[name=task][value={MODELS[model]}]")).to_have_count(1)
    page.click("#show-more-choices")


def submit(page: Page, start: str) -> int:
    """Start it by the button of this name; the study's number."""
    page.get_by_role("button", name=start).click()
    page.wait_for_url(re.compile(r"/studies/\d+$"))
    return int(page.url.rpartition("/")[2])


def watch(page: Page) -> None:
    """To its verdict and its end. No reload by the test: the page is told by server-sent events."""
    expect(page.get_by_role("region", name="Progress")).to_be_visible()
    expect(page.locator(".verdict h1")).to_contain_text("full fine-tuning", timeout=200_000)
    expect(page.get_by_role("region", name="Progress")).to_have_count(0, timeout=120_000)


def test_a_study_is_submitted_by_the_form_and_watched_to_its_verdict(vezna: RunningStack, page: Page) -> None:
    plan(page, "tiny", "small")
    page.get_by_label("Name of the study").fill("By the form")
    page.get_by_label("max_length").fill("16")
    page.get_by_label("Seeds", exact=True).fill("2")
    page.get_by_label("Seeds", exact=True).press("Tab")
    study = submit(page, "Start 6 runs")
    watch(page)
    found = vezna.api.get(f"/studies/{study}/comparison").json()
    assert [arm["statuses"] for arm in found["arms"]] == [{"succeeded": 2}] * 3
    # The button for more seeds is there only where they would decide, which such a short training does not promise.
    assert vezna.api.post(f"/studies/{study}/seeds", json={"count": 2}).is_success
    page.reload()
    expect(page.get_by_role("region", name="Progress")).to_be_visible()
    assert vezna.api.get(f"/studies/{study}").json()["spec"]["seeds"] == [0, 1, 2, 3]
    assert vezna.api.post(f"/studies/{study}/cancel").is_success  # the next test's runs need not wait for these


@pytest.mark.nightly
@pytest.mark.parametrize(("model", "metric"), [("gpt2", "token_accuracy"), ("t5", "rouge_l")])
def test_a_study_of_a_language_model_goes_from_the_form_to_its_verdict(
    vezna: RunningStack, page: Page, model: str, metric: str
) -> None:
    plan(page, model, "counting")
    page.get_by_label("General text").select_option("counted")
    remove = page.get_by_role("button", name="Remove head only")
    if remove.count():  # a linear probe is for classification
        remove.click()
        expect(remove).to_have_count(0)
    page.get_by_label("Name of the study").fill(f"Counting with {model}")
    page.get_by_label("max_length").fill("24")
    page.get_by_label("max_new_tokens").fill("8")  # of the 64 positions, which the usual 64 would take all
    page.get_by_label("Seeds", exact=True).fill("1")
    page.get_by_label("Seeds", exact=True).press("Tab")
    study = submit(page, "Start 2 runs")
    watch(page)
    found = vezna.api.get(f"/studies/{study}/comparison").json()
    assert found["metric"] == metric
    assert [arm["statuses"] for arm in found["arms"]] == [{"succeeded": 1}] * 2
    assert all(arm["forgetting"] is not None for arm in found["arms"])


@pytest.mark.nightly
def test_a_tuned_study_goes_from_the_form_to_a_verdict_with_the_rates_that_were_chosen(
    vezna: RunningStack, page: Page
) -> None:
    plan(page, "tiny", "small")
    remove = page.get_by_role("button", name="Remove LoRA r=8")
    remove.click()
    expect(remove).to_have_count(0)
    page.locator("#tuning-kind").select_option("grid")
    expect(page.locator("#tuning-rates")).to_have_value("3")
    page.locator("#tuning-rates").fill("2")
    page.get_by_label("Name of the study").fill("Tuned by the form")
    page.get_by_label("max_length").fill("16")
    page.get_by_label("Seeds", exact=True).fill("2")
    page.get_by_label("Seeds", exact=True).press("Tab")
    number = submit(page, "Start 4 trials and 4 runs")
    expect(page.get_by_role("region", name="Progress")).to_contain_text("trial at")
    watch(page)  # trials end, and the runs at the chosen rates follow
    page.click("#to-conditions")
    expect(page.locator("#tuning .here-row")).to_have_count(2)

    study = vezna.api.get(f"/studies/{number}").json()
    found = vezna.api.get(f"/studies/{number}/comparison").json()
    assert (len(study["trials"]), len(study["runs"])) == (4, 4)
    for arm in found["arms"]:
        assert arm["statuses"] == {"succeeded": 2}
        assert arm["learning_rate"] == arm["tuning"]["chosen"]["learning_rate"]
        best = max(arm["tuning"]["tried"], key=lambda tried: (tried["score"], -tried["loss"]))
        assert best["configuration"] == arm["tuning"]["chosen"]
        expect(page.locator("#tuning")).to_contain_text(arm["title"])
    differed = set(found["differed"])
    assert not differed & {"splits", "row_order", "test_items", "trials", "trial_steps"}
    for trial in study["trials"]:
        run = vezna.api.get(f"/runs/{trial}").json()
        assert run["score"] is None
        assert {e["split"] for e in run["result"]["evaluations"]} == {"validation"}
