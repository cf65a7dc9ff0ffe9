"""The Lab's pitfall of too little validation: A/A studies from stored item scores."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.services import null_studies
from app.settings import Settings
from app.store import migrate
from app.store.session import Database

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


def test_another_study_is_chosen_and_lora_comes_first(browser: TestClient) -> None:
    with browser.app.state.database.reading() as session:  # type: ignore[attr-defined]
        found = {source.study.id: source for source in null_studies.sources(session)}
    assert len(found) > 1 and all(source.arm.startswith("LoRA") for source in found.values())
    oldest = min(found)
    page = browser.get(f"{PAGE}?seed=7&study={oldest}").text
    assert f'<option value="{oldest}" selected>' in page and f"646 × {found[oldest].seeds} seeds" in page


def test_without_two_seeds_a_small_study_is_offered(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    database = Database(settings.database)
    migrate.upgrade(database)
    page = TestClient(create_app(settings), base_url="http://127.0.0.1").get(f"{PAGE}?seed=7").text
    assert "It needs two seeds of one method" in page and "Prepare the sample" in page
    database.dispose()
