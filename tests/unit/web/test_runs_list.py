"""The list of runs: filters, orders, pages; all of it in the address."""

import re
from urllib.parse import unquote

import pytest
from fastapi.testclient import TestClient

from app.domain.runs import RunStatus
from app.store.queries.run_list import COLUMNS, RunFilter, Sort, count, page
from app.web.numbers import hundred, rate
from tests.unit.web.conftest import database_of


def shown(text: str) -> list[int]:
    """Ids of the runs of a page, in order."""
    return [int(found) for found in re.findall(r'<th scope="row">.*?href="/runs/(\d+)"', text, re.DOTALL)]


def test_newest_runs_come_first(full: TestClient) -> None:
    assert shown(full.get("/runs").text) == list(range(37, 0, -1))


@pytest.mark.parametrize("sort", list(COLUMNS))
def test_every_order_reaches_every_run_once_page_by_page(full: TestClient, sort: Sort) -> None:
    with database_of(full).reading() as session:
        whole = page(session, RunFilter(), sort=sort, limit=100).rows
        column, falls = COLUMNS[sort]
        numbers = [getattr(run, column.key) for run in whole]
        known = [n for n in numbers if n is not None]
        assert known == sorted(known, reverse=falls)
        assert numbers[: len(known)] == known, "runs without the number come last"
        seen: list[int] = []
        after = None
        while after is not None or not seen:
            part = page(session, RunFilter(), sort=sort, after=after, limit=4)
            seen += [run.id for run in part.rows]
            after = part.next_after
        assert seen == [run.id for run in whole]


def test_filters_join_and_stay_when_the_order_changes(full: TestClient) -> None:
    text = full.get("/runs?status=succeeded&method=lora&study=1").text
    assert shown(text) == [8, 5, 2]
    assert "3 runs" in text
    links = {unquote(link) for link in re.findall(r'href="(/runs\?[^"]+)"', text.replace("&amp;", "&"))}
    assert "/runs?status=succeeded&method=lora&study=1&sort=score" in links


def test_the_order_in_force_is_told_to_a_screen_reader(full: TestClient) -> None:
    assert full.get("/runs?sort=score").text.count("aria-sort=") == 1
    assert 'aria-sort="descending"><a href="/runs?sort=score">' in full.get("/runs?sort=score").text


def test_a_filter_that_fits_nothing_offers_all_runs(full: TestClient) -> None:
    text = full.get("/runs?method=full&status=cancelled&study=3").text
    assert "No run is like that" in text
    assert 'href="/runs"' in text


def test_an_empty_place_asks_for_the_beginning(full: TestClient) -> None:
    for address in ("/runs", "/studies"):
        assert full.get(f"{address}?after=").status_code == 200
        assert full.get(f"{address}?after=x").status_code == 422
        assert full.get(f"{address}?after={10**30}").status_code == 422
    assert full.get(f"/runs?study={10**30}").status_code == 200


def test_counts_follow_the_filter(full: TestClient) -> None:
    with database_of(full).reading() as session:
        assert count(session, RunFilter()) == 37
        assert count(session, RunFilter(status=RunStatus.FAILED)) == 1


def test_numbers_are_in_the_units_of_their_columns(full: TestClient) -> None:
    with database_of(full).reading() as session:
        run = page(session, RunFilter(study_id=1, method="lora"), limit=1).rows[0]
    row = full.get("/runs?study=1&method=lora").text.split("</tr>")[1]
    assert f'<td class="num">{hundred(run.score)}</td>' in row
    assert '<td class="num">150</td>' in row
    assert '<td class="num">28.0</td>' in row
    assert f'<td class="num">{rate(run.learning_rate)}</td>' in row
