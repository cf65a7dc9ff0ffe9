"""Judging a study's answers in a browser: start, progress, scores, the judge's error, and the study's page."""

import re
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from app.features.judging.services import blind
from app.features.judging.tables import BlindRatingRow, JudgementRow
from app.settings import Settings
from tests.browser.conftest import Site
from tests.support import prediction_files
from tests.support.fakes.fakes import SilentBell
from tests.support.fakes.openai_stub import Stub, stubbed
from tests.support.filled.language import fill_language
from worker.features.judging import node
from worker.nodes.context import Context

pytestmark = pytest.mark.slow

STUDY, N = 5, 12
WRITTEN = {"full": 0.9, "lora": 0.7, "qlora": 0.7, "prompt": 0.3}
"""The share of the reference that each method's answers have."""


class Judge:
    """Scores an answer by its length, and one not at all."""

    def __getitem__(self, asked: str) -> str:
        answer = asked.split('"answer": "')[1]
        return "A fine headline." if "number 3" in asked and len(answer) > 34 else str(min(5, 1 + len(answer) // 8))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A judge that the application may reach."""
    with stubbed({"judge": Judge()}) as server:  # type: ignore[dict-item]
        monkeypatch.setenv("VEZNA_OUTBOUND_HOSTS", f"{server.place},127.0.0.1")
        yield server


@pytest.fixture
def answered(stub: Stub, site: Site) -> Site:
    """A study whose runs have answered."""
    with site.database.transaction() as session:
        fill_language(session)
        for run in blind.candidates(session, STUDY):
            written = np.full(N, WRITTEN[run.method_kind])
            prediction_files.store(session, site.files, run, prediction_files.generated(written, written, "rouge_l"))
    return site


@pytest.mark.nightly
def test_answers_are_judged_and_the_scores_are_on_the_studys_page(
    stub: Stub, answered: Site, page: Page, tmp_path: Path
) -> None:
    page.goto(f"/studies/{STUDY}/errors")
    page.click("#to-judge")
    page.get_by_label("Base URL").fill(stub.url)
    page.get_by_label("Model").fill("judge")
    page.get_by_role("button", name="Judge the answers").click()
    expect(page.locator("#results")).to_contain_text("queued")
    released = Event()

    def hold(_request: dict[str, Any]) -> None:
        if len(stub.seen) > N:
            released.wait(60)

    stub.raw = hold
    worker = Context(Settings(home=tmp_path), answered.database, answered.files, SilentBell())
    with answered.database.reading() as session:
        judgement_id = session.scalars(select(JudgementRow.id)).one()
    working = Thread(target=node.judge, args=(worker, judgement_id), daemon=True)
    working.start()
    progress = page.locator("#results progress")
    expect(progress).to_have_attribute("value", re.compile(r"0\.[1-9]"), timeout=20_000)
    released.set()
    working.join(60)
    rows = page.locator("#results table tbody tr")
    expect(rows).to_have_count(4, timeout=20_000)
    expect(page.locator("#results")).to_contain_text(
        "The judge's error is unknown for LoRA r=16, QLoRA r=16, prompt tuning n=20."
    )
    expect(page.locator("#results")).to_contain_text("no score from the judge")
    page.get_by_text("What the judge wrote instead of a score").click()
    expect(page.locator("#results q").first).to_have_text("A fine headline.")
    with answered.database.transaction() as session:
        full, lora = (
            next(run.id for run in blind.candidates(session, STUDY) if run.method_kind == kind)
            for kind in ("full", "lora")
        )
        session.add_all(
            BlindRatingRow(first_id=min(full, lora), second_id=max(full, lora), item=f"item-{n}", preferred=word)
            for n, word in enumerate(["first"] * 6 + ["second"] * 2)
        )
    page.reload()
    expect(rows.nth(1)).to_contain_text(re.compile(r"agrees with people on \d of 7 rated items"))
    page.goto(f"/studies/{STUDY}")
    expect(page.locator("#judge tbody tr")).to_have_count(4)
    expect(page.locator("#judge tbody tr").nth(1)).to_contain_text("rated items")
    page.click("#all-judgements")
    expect(page.locator("h1")).to_have_text("Judge model")
