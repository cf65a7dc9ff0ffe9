"""Test items that are conversations with tools: what people are shown of them, and what models are asked again."""

import json

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from app.domain.comparison.flips import FlipKind, Flips
from app.features.serving.pages.playground import context
from app.features.serving.pages.playground.form import PlaygroundQuery
from app.features.serving.rules import ChatMessage
from app.features.serving.services import asked_items
from app.main import create_app
from app.services.comparison.flips import FlipItem, FlipPage
from app.services.studies import studies
from app.settings import Settings
from app.store.tables import RunRow
from tests.features.judging.test_blind import Site, site
from tests.support import prediction_files
from tests.support.fakes.inference import FakeExchange, written

__all__ = ["site"]

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
TOOLS = json.dumps([{"type": "function", "function": {"name": "weather"}}])
CALLS = {
    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Sofia", "day": None}}}]
}
TURNS = [
    {"role": "system", "content": "Be brief.", "more": None},
    {"role": "user", "content": "Weather?", "more": None},
    {"role": "assistant", "content": "", "more": json.dumps(CALLS)},
    {"role": "tool", "content": "12 °C", "more": None},
    {"role": "assistant", "content": "It is 12 °C.", "more": None},
]
TEXT = f"system: Be brief.\nuser: Weather?\nassistant: {json.dumps(CALLS)}\ntool: 12 °C\ntools: {TOOLS}"


@pytest.fixture
def chats(site: Site) -> Site:
    """Its items are conversations."""
    with site.database.transaction() as session:
        for run_id in (site.first, site.second):
            columns = {
                "item": ["a", "b"],
                "messages": [TURNS, TURNS[:2] + TURNS[4:]],
                "tools": [TOOLS, None],
                "rouge_l": [1.0, 0.0],
                **{f"{side}prediction": [f"{run_id} says", "no"] for side in ("", "base_")},
            }
            prediction_files.store(session, site.files, session.get_one(RunRow, run_id), pa.table(columns))
    return site


def test_raters_see_the_tools(chats: Site) -> None:
    assert {item.prompt for item in chats.pair().items} == {TEXT, "system: Be brief.\nuser: Weather?"}


def test_the_playground_shows_what_was_asked_without_the_answer(
    chats: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = FlipItem(0, "a", f"{TEXT}\nassistant: It is 12 °C.", None, None, None, None, None)
    listed = FlipPage(items=(item,), words=(None,), total=1)
    monkeypatch.setattr(context.flip_service, "browse", lambda *_args, **_options: listed)
    with chats.database.reading() as session:
        comparison = studies.comparison(session, chats.study)
        arm = next(iter(Flips.of(comparison, None).arms))
        pairs = {"study": str(chats.study), "arm": arm, "kind": next(iter(FlipKind)).value, "item": "0"}
        page = context.of_query(session, chats.files, PlaygroundQuery((str(chats.first),), **pairs))
    assert page.query.text == TEXT
    assert page.stream == f"/api/v1/playground/events?model={chats.first}&study={chats.study}&item=0"


def test_models_are_asked_the_turns_with_their_tools(chats: Site, settings: Settings) -> None:
    with chats.database.reading() as session:
        found = asked_items.asked(session, chats.files, chats.study, 0)
    assert found is not None and (found.text, found.tools) == (TEXT, TOOLS)
    app = create_app(settings)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        fake = app.state.exchange = FakeExchange(written("It", "is"))
        address = f"/api/v1/playground/events?model={chats.first}"
        assert client.get(f"{address}&study={chats.study}&item=0").status_code == 200
        [request] = fake.requests
        assert request.tools == TOOLS
        [asked] = request.inputs
        assert asked == [
            ChatMessage(role="system", content="Be brief."),
            ChatMessage(role="user", content="Weather?"),
            ChatMessage(role="assistant", content="", tool_calls=CALLS["tool_calls"]),  # type: ignore[arg-type]
            ChatMessage(role="tool", content="12 °C"),
        ]
        assert [turn.turn.get("more") for turn in asked] == [turn["more"] for turn in TURNS[:4]]  # type: ignore[union-attr]
        assert client.get(f"{address}&text=hello&chat=1").status_code == 200
        assert fake.requests[1].tools is None, "a free prompt has none"
        assert client.get(f"{address}&study={chats.study}&item=9").status_code == 404
        assert client.get(address).status_code == 422
