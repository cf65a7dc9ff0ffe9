"""The page of a study's flips and the section of the study's page, by HTTP."""

import re

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from app.services.comparison.flips import Answer
from app.store.runs import queries as runs
from app.web.pages.study.flips import _cell
from tests.support import prediction_files
from tests.support.filled.filled import ITEMS
from tests.support.rows.factories import STATES, seed_study
from tests.support.servers.forms import without_tokens
from tests.unit.web.conftest import database_of

PAGE = "/studies/1/flips"


@pytest.fixture
def client(empty: TestClient) -> TestClient:
    """… with a finished study and its predictions."""
    files = empty.app.state.files  # type: ignore[attr-defined]
    with database_of(empty).transaction() as session:
        prediction_files.add_to_study(session, files, seed_study(session))
    return empty


def words(text: str) -> str:
    """What one reads of a page."""
    return " ".join(re.sub("<[^>]*>", " ", text).split())


def test_the_page_says_the_kind_the_rule_and_the_items(client: TestClient) -> None:
    text = client.get(PAGE).text
    assert "<h1>Full right, LoRA r=8 wrong</h1>" in text
    assert "more than half of its 3 seeds" in words(text)
    assert text.count('<tr id="worse-') == 20
    assert "More items" in text


@pytest.mark.slow
def test_every_count_leads_to_as_many_items(client: TestClient) -> None:
    text = client.get(PAGE).text
    links = re.findall(r'<td class="num"><a href="([^"]+)"[^>]*>(\d+)</a>', text)
    assert len(links) > 10
    for href, number in links:
        assert f"{number} item" in words(client.get(href.replace("&amp;", "&")).text)


def test_what_is_looked_at_is_in_the_address_and_stays_in_the_form(client: TestClient) -> None:
    text = client.get(PAGE, params={"seed": "1", "label": "sport", "length": "2", "q": "wins", "kind": "any"}).text
    for chosen in ('value="1" selected', 'value="sport" selected', 'value="2" selected', 'name="q" value="wins"'):
        assert chosen in " ".join(text.split()), chosen
    assert "Seed 1 alone" in text
    assert "exact test" in words(text)
    assert "Clear" in text


def test_a_word_that_means_nothing_asks_for_nothing(client: TestClient) -> None:
    odd = {"arm": "x", "label": "x", "kind": "x", "seed": "x", "length": "9", "sure": "x", "after": "x"}
    assert without_tokens(client.get(PAGE, params=odd).text) == without_tokens(client.get(PAGE).text)


def test_the_last_page_leads_nowhere_and_beyond_it_one_is_told_so(client: TestClient) -> None:
    assert "More items" not in client.get(PAGE, params={"after": "500"}).text
    assert "No such items" in client.get(PAGE, params={"after": "645"}).text


def test_texts_are_text_and_long_ones_are_folded(client: TestClient) -> None:
    files = client.app.state.files  # type: ignore[attr-defined]
    with database_of(client).transaction() as session:
        table = prediction_files.labelled(np.zeros(ITEMS), np.ones(ITEMS))
        long = "<script>alert(1)</script> " + "word " * 400
        table = table.set_column(1, "text", pa.array([long] * ITEMS))
        for run in runs.of_study(session, 1):
            prediction_files.store(session, files, run, table)
    text = client.get(PAGE).text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count('<details class="long-text">') == 20


def test_the_studys_page_has_counts_and_three_items_of_two_kinds(client: TestClient) -> None:
    section = client.get("/studies/1/errors").text
    assert section.count('<tr id="worse-') == section.count('<tr id="better-') == 3
    assert 'href="/studies/1/flips?arm=LoRA+r%3D8&amp;kind=worse"' in section


@pytest.mark.by_day
@pytest.mark.parametrize("state", STATES)
def test_both_pages_answer_in_every_state_without_any_file(empty: TestClient, state: str) -> None:
    with database_of(empty).transaction() as session:
        seed_study(session, **STATES[state])
    study, flips = empty.get("/studies/1"), empty.get(PAGE)
    assert (study.status_code, flips.status_code) == (200, 200)
    assert "None" not in flips.text


@pytest.mark.parametrize(("right", "mark"), [(3, "yes"), (2, "tie"), (1, "no")])
def test_as_many_seeds_right_as_wrong_are_a_tie(right: int, mark: str) -> None:
    answer = Answer(score=right / 4, seeds=4, right=right, label="sport")
    assert _cell(answer, "accuracy").mark == mark


def test_a_graded_score_of_one_half_is_no_tie() -> None:
    assert _cell(Answer(score=0.5, seeds=2, right=0, text="A headline"), "rouge_l").mark == "graded"
