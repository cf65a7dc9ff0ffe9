"""The Lab's pitfall of too little validation: A/A studies from stored item scores."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.features.lab.services import null_studies
from app.main import create_app
from app.settings import Settings
from app.store.tables import EvaluationRow

PAGE = "/lab/pitfalls/validation"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[TestClient]:
    """The filled database of a single user."""
    home = tmp_path_factory.mktemp("lab-validation")
    (home / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    app = create_app(Settings(home=home))
    yield TestClient(app, base_url="http://127.0.0.1")
    app.state.database.dispose()


def drawn(page: str) -> list[dict[str, list[float]]]:
    """What the script draws."""
    sent = re.search(r"data-null-studies='(.+?)'", page)
    assert sent
    found: list[dict[str, list[float]]] = json.loads(sent[1])["drawn"]
    return found


@pytest.mark.slow
def test_the_button_draws_studies_of_50_100_200_and_all_items(browser: TestClient) -> None:
    before = browser.get(PAGE).text
    assert "Run 1,000 studies" in before and "data-null-studies" not in before
    page = browser.get(f"{PAGE}?seed=7&guess=100").text
    studies = drawn(page)
    assert [one["items"] for one in studies] == [50, 100, 200, 646]
    assert all(len(one["leads"]) == 1000 for one in studies)
    leading = sum(abs(lead) >= 2 for lead in studies[0]["leads"])
    assert f"{leading} of 1,000 identical pairs lead by 2 points or more" in page
    assert f"Your prediction: 100 of 1,000. Drawn: {leading}." in page
    assert drawn(browser.get(f"{PAGE}?seed=7").text) == studies
    assert drawn(browser.get(f"{PAGE}?seed=8").text) != studies
    for odd in ("-1", "x", "9" * 30, "²"):
        assert "data-null-studies" not in browser.get(f"{PAGE}?seed={odd}&guess={odd}").text


def test_scores_without_variation_are_refused_and_a_study_is_offered(tmp_path: Path, filled_file: Path) -> None:
    (tmp_path / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    app = create_app(Settings(home=tmp_path))
    database = app.state.database
    with database.transaction() as session:
        for row in session.query(EvaluationRow).where(EvaluationRow.scores.is_not(None)):
            row.scores = bytes(len(row.scores))
    steady = np.zeros((2, 100))
    few, enough = (np.array([steady[0], np.arange(100) < differing]) for differing in (1, 2))
    assert [null_studies._varies(scores) for scores in (steady, few, enough)] == [False, False, True]
    page = TestClient(app, base_url="http://127.0.0.1").get(f"{PAGE}?seed=7").text
    assert "data-null-studies" not in page and "Other studies would show no lead at all" in page
    assert "Prepare the sample" in page or "Start LoRA r=8 with three seeds" in page
    database.dispose()
