"""A slow server loses no choice: what the user changes while an answer is under way stays, and counts."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page, Route, expect

from app.settings import Settings
from tests.browser.conftest import Site
from tests.support.ingested import context, upload

pytestmark = pytest.mark.slow

MODEL = "/models/all-MiniLM-L6-v2"
CSV = b"body,kind,mark\n" + b"".join(b"A text of some length %d,%d,%d\n" % (i, i % 2, i % 3) for i in range(40))


@contextmanager
def slow(page: Page, pattern: str) -> Iterator[None]:
    """Requests inside are answered only at its end, in the order in which they were sent."""
    held: list[Route] = []
    released = False
    page.route(pattern, lambda route: route.continue_() if released else held.append(route))
    yield
    page.wait_for_timeout(200)
    released = True
    for route in held:
        with suppress(Error):  # a newer request has taken its place
            route.continue_()
        page.wait_for_timeout(300)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(100)


@pytest.mark.nightly
def test_a_second_choice_of_a_mapping_is_not_lost(page: Page, site: Site, tmp_path: Path) -> None:
    number = upload(context(Settings(home=tmp_path), site.database, site.files), {"few.csv": CSV}).id
    page.goto(f"/data/uploads/{number}")
    page.locator("#mapping-format").select_option("labelled")
    page.wait_for_load_state("networkidle")
    selects = [page.locator(f"#mapping-columns-{role}") for role in ("text", "label")]
    with slow(page, "**/data/uploads/*"):
        selects[0].select_option("kind")
        selects[1].select_option("mark")
        page.locator("#name").fill("my-data")
    expect(selects[0]).to_have_value("kind")
    expect(selects[1]).to_have_value("mark")
    expect(page.locator("#name")).to_have_value("my-data")
    page.locator("#name").blur()
    page.wait_for_load_state("networkidle")
    expect(page.locator("#show-label-names")).to_be_visible()
    assert page.locator("input[name^='label-value']").count() == 3


@pytest.mark.nightly
def test_what_is_typed_while_a_study_form_is_redrawn_stays(page: Page) -> None:
    page.goto("/studies/new")
    arms = page.locator("fieldset.arm")
    before = arms.count()
    page.click("#show-more-choices")
    page.locator("#add").click()
    with slow(page, "**/studies/*"):
        page.locator("#add-bitfit").click()
        page.locator("#training-num_train_epochs").fill("7")
        page.locator("#add-ia3").click()
        page.locator("#seeds").fill("5")
    expect(arms).to_have_count(before + 2)
    expect(page.locator("#training-num_train_epochs")).to_have_value("7")
    expect(page.locator("#seeds")).to_have_value("5")


def test_a_task_chosen_while_another_model_is_asked_for_stays(page: Page) -> None:
    page.goto("/studies/new")
    page.click("#show-more-choices")
    with slow(page, "**/studies/*"):
        page.locator("#tuning-kind").select_option("grid")
        page.locator("#training-bf16, [name='training.bf16']").first.evaluate("e => e.closest('details').open = true")
        page.locator("[name='training.bf16']").select_option("true")
    expect(page.locator("#tuning-rates")).to_have_value("3")
    expect(page.locator("[name='training.bf16']")).to_have_value("true")


def test_the_estimate_counts_what_was_changed_last(page: Page) -> None:
    page.goto("/studies/new")
    with slow(page, "**/studies/*"):
        page.locator("#seeds").fill("4")
        page.locator("#seeds").press("Tab")
        page.locator("#seeds").fill("6")
        page.locator("#seeds").press("Tab")
    expect(page.locator("#estimate")).to_contain_text("6 seeds")


def test_what_is_typed_for_an_added_arm_stays(page: Page) -> None:
    page.goto("/studies/1/arms/new?method=lora")
    rank, rate = page.locator("#arms-0-method-r"), page.locator("#arms-0-learning_rate")
    with slow(page, "**/studies/1/arms/*"):
        rank.fill("16")
        rank.press("Tab")
        rate.fill("0.004")
    expect(rank).to_have_value("16")
    expect(rate).to_have_value("0.004")
    expect(page.locator("#arm-0-title")).to_contain_text("LoRA r=16")


def test_a_rank_that_is_typed_while_another_method_is_drawn_stays(page: Page) -> None:
    page.goto(MODEL)
    with slow(page, "**/modules?*"):
        page.locator("#tree-method").select_option("qlora")
        page.get_by_label("Rank").fill("4")
        page.wait_for_timeout(600)
    expect(page.locator("#tree-method")).to_have_value("qlora")
    expect(page.get_by_label("Rank")).to_have_value("4")
    expect(page.locator("#modules-count")).to_contain_text("QLoRA r=4")


def test_two_axes_of_a_study_chosen_one_after_the_other_both_count(page: Page) -> None:
    page.goto("/studies/1/costs")
    x, y = page.locator("select[name=x]"), page.locator("select[name=y]")
    with slow(page, "**/studies/1/costs?*"):
        x.select_option("time")
        y.select_option("loss")
    expect(x).to_have_value("time")
    expect(y).to_have_value("loss")
    expect(page).to_have_url(re.compile("x=time"))
    expect(page).to_have_url(re.compile("y=loss"))


def test_a_filter_that_is_typed_on_while_the_list_comes_stays(page: Page) -> None:
    page.goto("/runs")
    field = page.locator("#filter")
    with slow(page, "**/runs?*"):
        field.fill("study = 1")
        field.press("Enter")
        page.wait_for_timeout(100)
        field.press_sequentially(" and seed = 0")
        page.locator("tbody input[type=checkbox]").first.check()
    expect(page).to_have_url(re.compile("filter="))
    expect(field).to_have_value("study = 1 and seed = 0")
    expect(field).to_be_editable()


@pytest.mark.nightly
def test_two_sorts_whose_answers_come_in_turn_end_with_the_second(page: Page) -> None:
    page.goto("/studies/1")
    held: list[Route] = []
    page.route("**/studies/1?sort=*", lambda route: held.append(route))
    page.click("#sort-memory")
    page.click("#sort-time")
    page.wait_for_timeout(300)
    for route in held:
        route.continue_()
        page.wait_for_timeout(500)
    expect(page).to_have_url(re.compile(r"sort=-?time"))
    expect(page.locator("#arms [aria-sort]")).to_have_text(re.compile("Train time"))


def test_nothing_moves_below_the_pointer_when_the_face_comes_late(page: Page) -> None:
    """A press whose release meets another element is no click."""
    faces: list[Route] = []
    page.route("**/*.woff2", lambda route: faces.append(route))
    page.goto("/runs?filter=study+%3D+1", wait_until="domcontentloaded")
    link = page.get_by_role("columnheader", name="Started").get_by_role("link")
    expect(link).to_be_visible()
    page.wait_for_timeout(500)
    before = link.bounding_box()
    assert before is not None and faces
    page.mouse.move(before["x"] + 3, before["y"] + before["height"] / 2)
    page.mouse.down()
    for route in faces:
        route.continue_()
    page.evaluate("document.fonts.ready.then(() => true)")
    page.wait_for_timeout(300)
    assert link.bounding_box() == before
    page.mouse.up()
    expect(page).to_have_url(re.compile("sort=-?started"))
