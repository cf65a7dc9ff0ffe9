"""Controls of forms and lists that other files leave: a plan, the map, workers, runs, flips, comparisons, imports."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from app.store.models import queries as base_models
from tests.browser.conftest import Site
from tests.support import prediction_files
from tests.support.filled import estimates as filled_estimates
from tests.support.filled.language import register_language, t5

pytestmark = pytest.mark.slow


def test_a_plan_is_shown_as_yaml_and_copied(site: Site, chromium: Browser) -> None:
    context = chromium.new_context(base_url=site.url, permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto("/studies/new")
    page.fill("#name", "From a file")
    page.click("#show-yaml")
    expect(page.locator("#yaml")).to_contain_text("name: From a file")
    page.click("[data-copy='#yaml']")
    expect(page.locator("[data-copy='#yaml']")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#yaml").inner_text().strip()
    context.close()


def test_a_plan_takes_the_seeds_that_it_is_offered_and_the_reference_that_one_chooses(page: Page, site: Site) -> None:
    page.goto("/studies/new")
    page.select_option("#reference", "LoRA r=8")
    page.fill("#seeds", "1")
    page.press("#seeds", "Tab")
    page.click("#use-seeds")
    expect(page.locator("#seeds")).to_have_value("3")
    expect(page.locator("#start")).to_have_text("Start 9 runs")
    expect(page.locator("#reference option:checked")).to_have_text("LoRA r=8")
    page.fill("#name", "Against LoRA")
    page.click("#start")
    page.wait_for_url("**/studies/5")
    expect(page.locator("#sort-difference")).to_have_text("vs. LoRA r=8")


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


@pytest.mark.nightly
def test_a_map_is_asked_for_by_device_lengths_batches_and_checkpointing(page: Page, site: Site) -> None:
    page.goto("/models/all-MiniLM-L6-v2/map")
    page.select_option("#device", "RTX 3060")
    page.fill("#lengths", "many")
    page.click("#draw")
    expect(page.locator("main")).to_contain_text("Correct these fields")
    expect(page.locator("#lengths")).to_have_value("many")
    page.fill("#lengths", "64, 128")
    page.fill("#batch_sizes", "1, 2")
    page.get_by_label("Gradient checkpointing").check()
    page.click("#draw")
    expect(page).to_have_url(re.compile(r"device=RTX\+3060.*gradient_checkpointing=true"))
    filled_estimates.answer_requests(site.database)
    expect(page.locator("#map figure")).to_have_count(2, timeout=10_000)
    expect(page.locator("#map figcaption").first).to_contain_text("RTX 3060")
    expect(page.get_by_label("Gradient checkpointing")).to_be_checked()
    numbers = page.locator("#map .files details").first
    numbers.locator("summary").click()
    expect(numbers.locator("table")).to_contain_text("128")


def test_workers_lead_to_their_runs_and_the_page_looks_again(page: Page, site: Site) -> None:
    page.goto("/workers")
    page.clock.install()
    page.reload()
    with page.expect_response("**/workers"):
        page.clock.fast_forward(6000)
    queue = page.get_by_role("region", name="Queue")
    queue.get_by_role("link", name="Headlines, five seeds").first.click()
    page.wait_for_url("**/studies/2")
    page.goto("/workers")
    queue.get_by_role("link", name="Run 17", exact=True).click()
    page.wait_for_url("**/runs/17")
    page.goto("/workers")
    page.get_by_role("region", name="Workers").get_by_role("link", name="Run 16", exact=True).click()
    page.wait_for_url("**/runs/16")


def test_every_head_of_the_runs_sorts(page: Page) -> None:
    page.goto("/runs?filter=study+%3D+1")
    for name in ("Accuracy", "Train time", "Seed", "Learning rate", "Started"):
        head = page.get_by_role("columnheader", name=name)
        head.get_by_role("link").click()
        expect(head).to_have_attribute("aria-sort", re.compile("ending$"))
        expect(page.locator("table.runs [aria-sort]")).to_have_count(1)


def test_a_baseline_is_opened_and_let_go_in_its_row(page: Page) -> None:
    page.goto("/runs?filter=study+%3D+1&baseline=1")
    page.get_by_role("link", name="Unpin the baseline").click()
    expect(page.locator("#baseline")).to_have_count(0)
    page.get_by_role("link", name="Pin run 2 as the baseline").click()
    page.locator("#baseline").get_by_role("link", name="Run 2").click()
    page.wait_for_url("**/runs/2")


def test_a_group_is_compared_and_where_no_run_fits_all_are_offered(page: Page) -> None:
    page.goto("/runs?filter=study+%3D+1&group=seed")
    for box in page.locator("table.runs input[name=run]").all()[:2]:
        box.check()
    page.click("#compare")
    expect(page.locator("#arms tbody tr")).to_have_count(2)
    expect(page.locator("#arms tbody tr").first).to_contain_text("3 seeds")
    page.goto("/runs?filter=seed+%3D+99")
    page.get_by_role("link", name="All runs").click()
    expect(page.locator("#count")).to_have_text("37 runs")
    page.click("#to-imports")
    page.wait_for_url("**/imports")


def test_flips_that_are_none_lead_back_to_some(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        prediction_files.add_to_study(session, site.files, 1)
    page.goto("/studies/1/flips?q=nothing+like+that")
    expect(page.locator(".count")).to_have_text("0 items")
    page.get_by_role("link", name="All items of this kind").click()
    expect(page.locator(".flip-items tbody tr").first).to_be_visible()
    page.goto("/studies/4/flips")
    page.get_by_role("main").get_by_role("link", name="The study", exact=True).click()
    page.wait_for_url("**/studies/4")


def test_a_comparison_leads_to_its_runs_and_an_empty_one_to_lists(page: Page) -> None:
    page.goto("/compare?runs=1,2")
    page.locator("#arms .numbers").get_by_role("link", name="2", exact=True).click()
    page.wait_for_url("**/runs/2")
    for name, path in (("All runs", "/runs"), ("imported collections", "/imports")):
        page.goto("/compare")
        page.get_by_role("link", name=name).click()
        page.wait_for_url(f"**{path}")


def test_a_mistake_of_an_import_leads_to_its_field(page: Page) -> None:
    page.goto("/imports")
    page.click("#import")
    page.locator("#errors a").first.click()
    expect(page.locator("#files")).to_be_focused()
