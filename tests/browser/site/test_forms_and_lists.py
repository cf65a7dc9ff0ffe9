"""Controls of forms and lists that other files leave: a plan, the map, workers, runs, flips, comparisons, imports."""

import pytest
from playwright.sync_api import Page, expect

from app.store.models import queries as base_models
from tests.browser.conftest import Site
from tests.support.filled.language import register_language, t5

pytestmark = pytest.mark.slow


def test_an_edit_between_two_clicks_leaves_the_forms_key(page: Page) -> None:
    page.goto("/studies/new")
    key = page.locator("#study-form > input[name=idempotency_key]").input_value()
    page.click("#remove-2")
    expect(page.locator("fieldset.arm")).to_have_count(2)
    assert page.locator("#study-form > input[name=idempotency_key]").input_value() == key


def test_metric_and_general_text_are_chosen_for_a_language_model(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        register_language(session)
    page.goto("/studies/new")
    page.check("input[value='SmolLM2-135M']")
    expect(page.locator("#task")).to_contain_text("Not possible here: classification of texts")
    page.check("input[value='bbc-summaries']")
    page.click("#remove-2")  # a linear probe is for classification
    expect(page.locator("fieldset.arm")).to_have_count(2)
    page.select_option("#metric", "rouge_l")
    expect(page.locator("#budget")).to_contain_text("ROUGE-L")
    page.select_option("#general_text", "bbc-text")
    page.click("#show-yaml")
    expect(page.locator("#yaml")).to_contain_text("metric: rouge_l")
    expect(page.locator("#yaml")).to_contain_text("general_text: bbc-text")


def test_a_task_is_chosen_where_model_and_data_allow_several(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        register_language(session)
        model = base_models.by_name(session, "SmolLM2-135M")
        assert model is not None and model.facts is not None
        both = model.facts.tasks | {"seq2seq-lm": t5()}
        model.facts_json = model.facts.model_copy(update={"tasks": both}).model_dump()
    page.goto("/studies/new?base_model=SmolLM2-135M&dataset=bbc-summaries")
    causal, pairs = page.locator("#task-causal-lm"), page.locator("#task-seq2seq-lm")
    expect(causal).to_be_checked()
    expect(page.get_by_label("packing")).to_have_count(1)
    pairs.check()
    expect(page.get_by_label("packing")).to_have_count(0)
    expect(pairs).to_be_checked()
    page.click("#show-yaml")
    expect(page.locator("#yaml")).to_contain_text("task: seq2seq-lm")
    causal.check()
    expect(page.get_by_label("packing")).to_have_count(1)
    expect(causal).to_be_checked()


def test_on_a_narrow_screen_a_bar_leads_to_the_estimate(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/studies/new")
    expect(page.locator("#plan-head")).not_to_be_in_viewport()
    page.click("#estimate-bar")
    expect(page.locator("#plan-head")).to_be_in_viewport()
    page.get_by_role("link", name="Register another model").click()
    page.wait_for_url("**/models")
