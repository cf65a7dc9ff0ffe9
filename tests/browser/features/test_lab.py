"""The Lab's learning path in Bulgarian: a slider by keyboard, counts that follow a choice, questions, reviews."""

from datetime import timedelta

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from app.features.lab.rules.questions import ChoiceQuestion
from app.features.lab.services import learner as lab
from app.features.lab.services import lessons
from app.features.lab.tables import LabAnswerRow, LabCardRow
from app.store.tables import now
from tests.browser.conftest import Site
from tests.support.rows.lab import ATTENTION, MATRICES, answered

pytestmark = pytest.mark.slow


def answer(page: Page) -> None:
    """Answer the question of a step as it is right."""
    [topic] = [topic for topic in lessons.library() if page.url.partition("?")[0].endswith(lessons.address(topic))]
    asked = lab.question(lessons.library()[topic].question)
    for place in asked.right():  # type: ignore[union-attr]
        page.locator(f".question [value='{place}']").check()
    page.get_by_role("button", name="Отговор").click()
    expect(page.locator("#question [role='status']")).to_be_visible()


def a_day_later(site: Site) -> None:
    """The clock is moved: everything that a learner did is a day and an hour older."""
    day = timedelta(days=1, hours=1)
    with site.database.transaction() as session:
        for answered_row in session.scalars(select(LabAnswerRow)):
            answered_row.answered_at -= day
        for card in session.scalars(select(LabCardRow)):
            card.due_at, card.first_at = card.due_at - day, card.first_at - day


def answer_the_quiz(page: Page) -> None:
    """Answer the seven questions of the course from memory, and rate each as well remembered."""
    for number in range(1, 8):
        page.goto(f"/lab/questions/quiz-{number}")
        asked = lab.question(f"quiz-{number}")
        if isinstance(asked, ChoiceQuestion):
            for place in asked.right():
                page.locator(f".question [value='{place}']").check()
        else:
            page.locator("textarea").fill("По памет.")
        page.locator(".quiz button").click()
        expect(page.locator("[role='status']")).to_be_visible()
        page.locator(".rates [value='3']").click()


def test_the_path_is_walked_in_bulgarian(site: Site, chromium: Browser) -> None:
    context = chromium.new_context(base_url=site.url, locale="bg-BG", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    mistakes: list[str] = []
    page.on("pageerror", lambda error: mistakes.append(str(error)))
    page.goto("/lab")
    page.get_by_role("link", name="Преди да започнете").click()
    page.locator("textarea").fill("Нещо за трансфера.")
    page.get_by_role("button", name="Отговор").click()
    page.goto("/lab/steps/step-1")
    page.get_by_role("button", name="Изчислете").click()
    expect(page.locator("#run [role='status']")).to_be_visible()
    with site.database.transaction() as session:
        answered(session, ATTENTION)
    expect(page.locator("#head .says")).to_contain_text("Слой 1, глава 2")  # the one that moved
    page.get_by_role("slider", name="Глава на вниманието").press("ArrowLeft")
    expect(page.locator("#head .says")).to_contain_text("Слой 1, глава 1")
    answer(page)
    page.goto("/lab")
    page.get_by_role("link", name="Нискорангова апроксимация", exact=True).click()
    page.get_by_role("button", name="Изчислете").click()
    expect(page.locator("#run [role='status']")).to_be_visible()
    with site.database.transaction() as session:
        answered(session, MATRICES)
    slider = page.get_by_role("slider")  # the page polls until the answer is there
    expect(slider).to_have_attribute("aria-valuetext", "ранг 8, запазена енергия 14\u00a0%, грешка 93\u00a0%")
    slider.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuetext", "ранг 1, запазена енергия 7,0\u00a0%, грешка 96\u00a0%")
    slider.press("ArrowRight")
    page.get_by_label("ΔW, пълна настройка").check()
    expect(page.locator(".says")).to_contain_text("Ранг 8 пази 70\u00a0% от енергията на ΔW, пълна настройка.")
    slider.press("End")
    expect(page.locator(".says")).to_contain_text("но с 2,00 пъти параметрите на матрицата")
    answer(page)
    page.get_by_role("link", name="3 LoRA в слоя").last.click()
    page.get_by_role("radio", name="16", exact=True).check()
    expect(page.locator(".big")).to_have_text("1\u00a0769\u00a0472")
    expect(page.locator(".sum")).to_contain_text("72 × 16")
    answer(page)
    for step in ("step-4", "step-5"):
        page.goto(f"/lab/steps/{step}")
        answer(page)
    answer_the_quiz(page)
    page.goto("/lab")
    expect(page.get_by_text("5 от 5 стъпки")).to_be_visible()
    with site.database.reading() as session:
        planned = lab.queue(session, "", now()).plan[0].question
        assert planned.id not in {question.id for question in lab.queue(session, "", now()).due}
    a_day_later(site)
    page.goto("/lab")
    with site.database.reading() as session:
        due = lab.queue(session, "", now()).due
    assert planned in due and lab.question(lessons.library()[lessons.STEPS[1]].question) in due
    expect(page.locator(".due")).to_contain_text(due[0].text.bg)
    expect(page.locator(".plan [aria-current]")).to_contain_text("днес")
    page.get_by_role("link", name="Започнете", exact=True).click()
    expect(page.locator(".question h1")).to_contain_text(due[0].text.bg)
    page.goto("/lab/recap")
    expect(page.locator("tbody tr").nth(1).get_by_text("готово")).to_have_count(2)
    expect(page.locator("#before")).to_contain_text("Нещо за трансфера.")
    expect(page.locator("#before").get_by_role("link", name="Отговорете сега")).to_have_count(2)
    assert not mistakes
    context.close()
