"""Who clicks again before the answer has come, or while the page still settles, gets what was asked for last."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

pytestmark = pytest.mark.slow


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
