"""What scripts add to pages, and that nothing is lost without them."""

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from app.domain.runs.status import RunStatus
from app.services.runs import attempts
from app.store.models import queries as base_models
from app.store.runs import queries as runs
from tests.browser.conftest import Site
from tests.support.filled import estimates as filled_estimates
from tests.support.filled import filled
from tests.support.filled.language import register_language
from tests.support.rows import factories

pytestmark = pytest.mark.slow

RUNNING, QUEUED = 16, 17


@pytest.mark.nightly
def test_the_estimate_follows_the_form(page: Page) -> None:
    page.goto("/studies/new")
    expect(page.locator("#arm-1-trains")).to_contain_text("trains 339,845")
    page.fill("#arms-1-method-r", "16")
    page.press("#arms-1-method-r", "Tab")
    expect(page.locator("#arm-1-trains")).to_contain_text("trains 677,765")
    expect(page.locator("#arm-1-title")).to_contain_text("LoRA r=16")
    page.fill("#seeds", "5")
    page.press("#seeds", "Tab")
    expect(page.locator("#start")).to_have_text("Start 15 runs")


def test_the_estimate_follows_a_field_that_is_left_for_a_button(page: Page) -> None:
    page.goto("/studies/new")
    page.click("#arm-0-more summary")
    page.fill("#arms-0-name", "mine")
    page.press("#arms-0-name", "Tab")
    expect(page.locator("#copy-1")).to_be_focused()
    expect(page.locator("#arm-0-title")).to_contain_text("mine")
    expect(page.locator("h1")).to_have_count(1)


def test_another_model_and_other_data_draw_the_form_anew_and_what_was_typed_stays(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        register_language(session)
    page.goto("/studies/new")
    page.click("#show-more-choices")
    page.fill("#arms-1-method-r", "4")
    page.check("input[value='SmolLM2-135M']")
    expect(page.locator("#task")).to_contain_text("Not possible here: classification of texts")
    page.check("input[value='bbc-summaries']")
    expect(page.locator("#task")).to_contain_text("Language modelling")
    expect(page.locator("[data-picks='arms-1-method-target_modules']")).to_contain_text("q_proj")
    expect(page.locator("input[value='bbc-summaries']")).to_be_focused()
    expect(page.locator("#arms-1-method-r")).to_have_value("4")
    expect(page.locator("#name")).to_have_value("BBC first paragraphs and their headlines on SmolLM2-135M")
    expect(page.locator("#arm-2-advice")).to_contain_text("does not support the task causal-lm")
    expect(page.locator("#training-max_new_tokens")).to_be_visible()


@pytest.mark.nightly
def test_the_panel_waits_for_estimates_and_what_is_being_typed_is_left_alone(page: Page, site: Site) -> None:
    page.goto("/studies/new")
    expect(page.locator("#estimate .waits")).to_contain_text("estimates in progress")
    page.fill("#arms-1-method-r", "")
    page.type("#arms-1-method-r", "1")  # and not left: the form has not changed yet
    with page.expect_response("**/studies/plan") as nothing_new:
        pass
    assert nothing_new.value.status == 204
    filled_estimates.answer_requests(site.database)
    expect(page.locator("#estimate .waits")).to_have_count(0, timeout=10_000)
    expect(page.locator("#estimate")).to_contain_text("MiB, assumed")
    expect(page.locator("#arm-1-title")).to_contain_text("LoRA r=8")
    expect(page.locator("#arms-1-method-r")).to_have_value("1")
    expect(page.locator("#arms-1-method-r")).to_be_focused()


@pytest.mark.nightly
def test_what_one_opened_in_the_panel_stays_open_and_keeps_the_keyboard(page: Page, site: Site) -> None:
    page.goto("/studies/new")
    page.click("#show-gpus")
    filled_estimates.answer_requests(site.database)
    expect(page.locator("#estimate .waits")).to_have_count(0, timeout=10_000)
    expect(page.locator("#gpus table")).to_be_visible()
    expect(page.locator("#show-gpus")).to_be_focused()


@pytest.mark.nightly
def test_a_map_appears_once_it_is_worked_out(page: Page, site: Site) -> None:
    page.goto("/models/all-MiniLM-L6-v2")
    page.click("#to-map")
    expect(page.locator("#map")).to_contain_text("Map in progress")
    filled_estimates.answer_requests(site.database)
    expect(page.locator("#map figure")).to_have_count(2, timeout=10_000)
    page.click("#show-methods")
    page.check("input[value='bitfit']")
    page.click("#draw")
    page.wait_for_url("**methods=bitfit**")
    filled_estimates.answer_requests(site.database)
    expect(page.locator("#map figure")).to_have_count(3, timeout=10_000)


def test_layers_are_picked_by_name(page: Page) -> None:
    page.goto("/studies/new")
    picks = page.locator("[data-picks='arms-1-method-target_modules']")
    picks.get_by_role("button", name="key").click()
    picks.get_by_role("button", name="dense").click()
    expect(page.locator("#arms-1-method-target_modules")).to_have_value("key, dense")
    expect(page.locator("#arm-1-trains")).to_contain_text("trains 2")
    picks.get_by_role("button", name="key").click()
    expect(page.locator("#arms-1-method-target_modules")).to_have_value("dense")
    picks.get_by_role("button", name="all-linear").click()
    expect(page.locator("#arms-1-method-target_modules")).to_have_value("all-linear")
    expect(picks.get_by_role("button", name="all-linear")).to_have_attribute("aria-pressed", "true")
    expect(picks.get_by_role("button", name="dense")).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize("target", [r".*layer\.[0-1,4]\..*(query|value)", "query|key"])
def test_a_pattern_gives_way_to_a_layer_that_is_picked(page: Page, target: str) -> None:
    page.goto("/studies/new")
    page.fill("#arms-1-method-target_modules", target)
    page.press("#arms-1-method-target_modules", "Tab")
    picks = page.locator("[data-picks='arms-1-method-target_modules']")
    expect(picks.locator("[aria-pressed='true']")).to_have_count(0)
    picks.get_by_role("button", name="key").click()
    expect(page.locator("#arms-1-method-target_modules")).to_have_value("key")


@pytest.mark.nightly
def test_a_model_that_waits_is_shown_whole_once_it_was_inspected(page: Page, site: Site) -> None:
    page.goto("/models/distilbert-base")
    expect(page.locator("#inspection")).to_be_visible()
    with page.expect_response("**/models/distilbert-base"):
        pass  # it is looked at again, and still waits
    expect(page.get_by_role("banner")).to_have_count(1)
    with site.database.transaction() as session:
        row = base_models.by_name(session, "distilbert-base")
        assert row is not None
        row.status, row.facts_json = "ready", filled.model_facts().model_dump(mode="json")
    expect(page.locator("#methods")).to_be_visible(timeout=10_000)
    expect(page.locator("#inspection")).to_have_count(0)
    for part in ("banner", "main", "contentinfo"):
        expect(page.get_by_role(part)).to_have_count(1)


def test_a_folded_part_of_the_form_stays_as_it_was(page: Page) -> None:
    page.goto("/studies/new")
    page.click("#show-more-choices")
    page.click("#budget-more summary")
    page.check("#training-gradient_checkpointing")
    page.click("#copy-1")
    expect(page.locator("fieldset.arm")).to_have_count(4)
    expect(page.locator("#training-gradient_checkpointing")).to_be_visible()
    expect(page.locator("#training-gradient_checkpointing")).to_be_checked()


def test_enter_in_a_field_copies_nothing_and_starts_nothing(page: Page, site: Site) -> None:
    page.goto("/studies/new")
    page.press("#name", "Enter")
    expect(page.locator("fieldset.arm")).to_have_count(3)
    page.wait_for_url("**/studies/new")
    with site.database.reading() as session:
        assert runs.count_by_status(session)["queued"] == 8


def test_errors_take_the_focus_and_lead_to_their_fields(page: Page) -> None:
    page.goto("/studies/new")
    page.fill("#arms-0-learning_rate", "fast")
    page.click("#start")
    expect(page.locator("#errors")).to_be_focused()
    page.click("#errors a")
    expect(page.locator("#arms-0-learning_rate")).to_be_focused()
    expect(page.locator("#arms-0-learning_rate")).to_have_value("fast")


@pytest.mark.nightly
def test_a_run_is_followed_to_its_end(page: Page, site: Site) -> None:
    page.goto(f"/runs/{RUNNING}")
    expect(page.locator("#progress")).to_contain_text("step 153 of 246")
    with site.database.transaction() as session:
        runs.get(session, RUNNING).step = 200
    expect(page.locator("#progress")).to_contain_text("step 200 of 246", timeout=10_000)
    with site.database.transaction() as session:
        filled.succeed(session, runs.get(session, RUNNING))
    expect(page.locator("h1")).to_contain_text("right, the base model", timeout=15_000)
    assert "sse-connect" not in page.content()


def test_a_queued_run_begins_before_ones_eyes(page: Page, site: Site) -> None:
    page.goto(f"/runs/{QUEUED}")
    expect(page.locator("#progress")).to_contain_text("position 1 in the queue")
    with site.database.transaction() as session:
        attempts.claim(session, QUEUED, "gpu-1", 3600, filled.GPUS)
    expect(page.locator("#progress")).to_contain_text("Starting", timeout=10_000)
    expect(page.locator("#live-log")).to_contain_text("claimed by gpu-1")
    expect(page.locator("#byline")).to_contain_text("running")
    expect(page.locator("#byline")).to_contain_text("on gpu-1")


@pytest.mark.nightly
@pytest.mark.parametrize("address", [f"/runs/{RUNNING}", "/studies/2"])
def test_what_ended_before_its_page_listened_is_shown_ended(page: Page, site: Site, address: str) -> None:
    def late(route: Route) -> None:
        with site.database.transaction() as session:
            for run in runs.of_study(session, 2):
                if not RunStatus(run.status).terminal:
                    filled.succeed(session, run)
        route.continue_()

    page.route("**/events?*", late)
    page.goto(address)
    expect(page.locator("[sse-connect]")).to_have_count(0, timeout=15_000)
    expect(page.locator("#progress")).to_have_count(0)


def test_what_began_before_its_page_listened_is_shown_running(page: Page, site: Site) -> None:
    def late(route: Route) -> None:
        with site.database.transaction() as session:
            attempts.claim(session, QUEUED, "gpu-1", 3600, filled.GPUS)
        route.continue_()

    page.route("**/events?*", late)
    page.goto(f"/runs/{QUEUED}")
    expect(page.locator("#byline")).to_contain_text("running", timeout=15_000)


def test_the_keyboard_stays_on_a_link_of_a_study_that_goes_on(page: Page, site: Site) -> None:
    page.goto("/studies/2")
    page.focus("#scroll-Arms")
    with site.database.transaction() as session:
        filled.succeed(session, runs.get(session, RUNNING))
    expect(page.locator("#progress")).to_contain_text("7 of 15 runs done", timeout=10_000)
    expect(page.locator("#scroll-Arms")).to_be_focused()


@pytest.mark.nightly
@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_make_no_page_scroll_sideways(page: Page, site: Site, width: int) -> None:
    with site.database.transaction() as session:
        long = [arm.model_copy(update={"name": f"{n}{'_unbroken' * 6} name"}) for n, arm in enumerate(factories.ARMS)]
        study = factories.seed_study(session, arms=long)
    page.set_viewport_size({"width": width, "height": 900})
    for address in ("/studies", f"/studies/{study}", "/runs", f"/studies/new?from_study={study}"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address


def test_a_theme_is_kept_and_stands_before_the_first_paint(page: Page) -> None:
    page.goto("/studies")
    page.get_by_label("Dark").check()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto("/runs", wait_until="commit")
    page.wait_for_selector("body", state="attached")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.get_by_label("System").check()
    assert page.evaluate("document.documentElement.dataset.theme") is None


def test_the_keyboard_reaches_the_content_first(page: Page) -> None:
    page.goto("/runs")
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    expect(skip).to_be_focused()
    box = skip.bounding_box()
    assert box and box["width"] > 50
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_times_are_in_the_readers_zone(site: Site, chromium: Browser) -> None:
    shown = []
    for zone in ("UTC", "Asia/Tokyo"):
        context = chromium.new_context(base_url=site.url, timezone_id=zone)
        page = context.new_page()
        page.goto("/studies")
        shown.append(page.locator("time").first.inner_text())
        context.close()
    assert shown[0] != shown[1]
