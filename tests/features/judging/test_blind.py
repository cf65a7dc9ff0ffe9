"""Blind comparison of a study's runs, on SQLite and on PostgreSQL."""

import html
import re
from dataclasses import dataclass

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete

from app.domain.accounts.ownership import Viewer, Visibility
from app.domain.comparison.statistics.preference import BlindItem, Preferred, first_is_left
from app.domain.errors import Invalid, NotFound
from app.features.judging.queries import blind_ratings
from app.features.judging.services import blind
from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import RunRow, StudyRow, UserRow
from tests.support import prediction_files
from tests.support.filled.filled import add_study
from tests.support.filled.language import register_language, studies, succeed
from tests.support.servers.forms import form_headers

N = 40


@dataclass
class Site:
    """A study of a language model with two runs, whose answers differ on every other item."""

    database: Database
    files: Files
    study: int
    first: int
    second: int

    def pair(self, one: int = 0, other: int = 0) -> blind.BlindPair:
        with self.database.reading() as session:
            return blind.pair(session, self.files, self.study, one or self.first, other or self.second)

    def next(self, user: int | None = None) -> tuple[BlindItem | None, int]:
        with self.database.reading() as session:
            return blind.next_item(session, self.pair(), user)

    def rate(self, item: str, preferred: Preferred, user: int | None = None) -> None:
        pair = self.pair()
        with self.database.transaction() as session:
            blind.rate(session, pair, item, preferred, user)


@pytest.fixture
def site(database: Database, files: Files, settings: Settings) -> Site:
    settings.home.mkdir(parents=True, exist_ok=True)
    answers = [np.ones(N), np.where(np.arange(N) % 2, 1.0, 0.5)]
    with database.transaction() as session:
        register_language(session)
        runs = add_study(session, studies()[0], hours_ago=1.0)
        for run, scores in zip(runs[:2], answers, strict=True):
            succeed(session, run)
            session.flush()
            prediction_files.store(session, files, run, prediction_files.generated(np.zeros(N), scores, "rouge_l"))
        first, second = (run.id for run in runs[:2])
        assert runs[0].study_id is not None
        return Site(database, files, runs[0].study_id, first, second)


def test_items_with_two_answers_are_rated_once_by_each_person(site: Site) -> None:
    with site.database.transaction() as session:
        session.add(UserRow(id=1, email="a@example.org", name="A", role_name="member"))
    pair = site.pair(site.second, site.first)
    assert pair.key == (site.first, site.second) and (len(pair.items), pair.differing) == (N, N // 2)
    order = []
    while (found := site.next())[0] is not None:
        assert found[1] == len(order) and not found[0].alike
        order.append(found[0].item)
        site.rate(found[0].item, Preferred.FIRST)
    assert len(set(order)) == N // 2
    site.rate(order[0], Preferred.SECOND)
    assert site.next(1)[1] == 0, "another person rates too"
    site.rate(order[0], Preferred.TIE, user=1)
    with site.database.reading() as session:
        assert len(blind_ratings.of_pair(session, *pair.key)) == N // 2 + 1
        found = blind.result(session, pair)
    assert (found.rated, found.first, found.second, found.ratings) == (N // 2, N // 2 - 1, 1, N // 2 + 1)
    assert found.difference is not None and found.difference.delta > 0


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_cannot_be_compared_is_named_and_a_deleted_run_takes_its_ratings_along(site: Site) -> None:
    with pytest.raises(Invalid, match="cannot be compared with itself"):
        site.pair(site.first, site.first)
    with pytest.raises(NotFound, match="has no run"):
        site.pair(site.first, site.second + 1)
    alike = next(item for item in site.pair().items if item.alike)
    with pytest.raises(NotFound, match="two different answers"):
        site.rate(alike.item, Preferred.FIRST)
    item = site.next()[0]
    assert item is not None
    site.rate(item.item, Preferred.TIE)
    with site.database.transaction() as session:
        session.execute(delete(RunRow).where(RunRow.id == site.first))
    with site.database.reading() as session:
        assert blind_ratings.of_pair(session, site.first, site.second) == []


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_on_the_page_the_sides_hide_the_runs(site: Site, settings: Settings) -> None:
    app = create_app(settings)
    address = f"/studies/{site.study}/blind"
    runs = {"first": site.first, "second": site.second}
    with TestClient(app, base_url="http://127.0.0.1", headers=form_headers(app)) as client:
        assert f'href="{address}"' in client.get(f"/studies/{site.study}/errors").text
        assert "Which answer is better" not in client.get(address).text
        for rated in range(4):
            page = client.get(address, params=runs).text
            assert f"Rated by you: {rated} of {N // 2} items" in page
            item = html.unescape(re.findall(r'name="item" value="([^"]+)"', page)[0])
            shown = [
                html.unescape(text) for text in re.findall(r'<pre class="code note" dir="auto">(.*?)</pre>', page, re.S)
            ]
            one = next(each for each in site.pair().items if each.item == item)
            left_first = first_is_left(site.pair().key, item, None)
            assert shown == ([one.first, one.second] if left_first else [one.second, one.first])
            sent = runs | {"item": item, "better": ("left", "right", "tie", "left")[rated]}
            answer = client.post(address, data=sent, follow_redirects=False)
            assert answer.status_code == 303
            with site.database.reading() as session:
                stored = blind_ratings.of_pair(session, site.first, site.second)[-1]
            left = "first" if left_first else "second"
            right = "second" if left_first else "first"
            assert stored.preferred == (left, right, "tie", left)[rated]
        assert client.post(address, data=sent | {"better": "both"}).status_code == 422
        assert client.get(address, params=runs | {"second": site.first}).status_code == 422
        assert client.get(address, params=runs | {"second": 10**6}).status_code == 404


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_private_study_is_compared_by_its_owner_alone(site: Site) -> None:
    with site.database.transaction() as session:
        session.add_all([UserRow(id=n, email=f"{n}@example.org", name="", role_name="member") for n in (1, 2)])
        session.flush()
        for row in (session.get_one(StudyRow, site.study), *session.query(RunRow)):
            row.give(1, Visibility.PRIVATE)
    item = next(item.item for item in site.pair().items if not item.alike)
    site.rate(item, Preferred.TIE, user=1)
    for user, seen in ((1, True), (2, False)):
        with site.database.seen_by(Viewer(user)).reading() as session:
            assert bool(blind_ratings.of_pair(session, site.first, site.second)) is seen
            if seen:
                assert len(blind.candidates(session, site.study)) == 2
            else:
                with pytest.raises(NotFound):
                    blind.pair(session, site.files, site.study, site.first, site.second)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_over_rest_items_hide_the_runs_and_ratings_count_as_on_the_page(site: Site, settings: Settings) -> None:
    runs = {"first": site.second, "second": site.first}
    with TestClient(create_app(settings), base_url=f"http://127.0.0.1/api/v1/studies/{site.study}/blind/") as api:
        assert [run["id"] for run in api.get("runs").json()] == [site.first, site.second]
        empty = api.get("preference", params=runs).json()
        assert (empty["verdict"], empty["delta"], empty["ratings"]) == ("none", None, 0)
        state = api.get("next", params=runs).json()
        assert (state["rated"], state["differing"], state["items"]) == (0, N // 2, N)
        for rated in range(1, N // 2 + 1):
            shown = state["next"]
            assert shown.keys() == {"item", "prompt", "left", "right"}
            one = next(each for each in site.pair().items if each.item == shown["item"])
            assert {shown["left"], shown["right"]} == {one.first, one.second}
            better = "left" if shown["left"] == one.second else "right"
            answer = api.post("ratings", json=runs | {"item": shown["item"], "better": better})
            assert answer.status_code == 200
            state = answer.json()
            assert state["rated"] == rated
        assert state["next"] is None
        found = api.get("preference", params=runs).json()
        assert (found["first"], found["second_preferred"], found["ties"]) == (site.first, N // 2, 0)
        assert found["verdict"] == "worse" and -1 <= found["low"] < found["delta"] < found["high"] < 0
        tie = runs | {"item": shown["item"], "better": "tie"}
        assert api.post("ratings", json=tie).json()["rated"] == N // 2, "it replaces the earlier one"
        assert api.get("preference", params=runs).json()["ties"] == 1
        for changes, status in (
            ({"better": "first"}, 422),
            ({"item": "none such"}, 404),
            ({"second": site.second}, 422),
            ({"second": 10**6}, 404),
        ):
            assert api.post("ratings", json=tie | changes).status_code == status, changes
        assert api.get("next", params={"first": site.first}).status_code == 422
