"""Conversations whose meaning Vezna would change: a finding names the field, and nothing is trained."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from tests.support.ingested import prepared
from worker.ingest.unread import _of_turn

CHATS = ColumnMapping(format="messages", columns={"messages": "messages"})
PAIRS = ColumnMapping(format="prompt-completion", columns={"prompt": "prompt", "completion": "completion"})
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def chat(place: int, **fields: Any) -> list[dict[str, Any]]:
    """A conversation whose answer has more fields."""
    return [
        {"role": "user", "content": f"question {place}"},
        {"role": "assistant", "content": f"answer {place}", **fields},
    ]


def outcome(folder: Path, rows: list[dict[str, Any]], mapping: ColumnMapping = CHATS) -> Any:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return prepared(folder, {"data.jsonl": data}, mapping, Splitting(kind="random"))


def usual(count: int = 120) -> list[dict[str, Any]]:
    return [{"messages": chat(place)} for place in range(count)]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"messages": chat(0, tool_calls=[{"type": "custom", "custom": {"name": "x"}}])}, "tool_calls"),
        ({"messages": chat(0, tool_calls=[{"function": {"name": "x", "arguments": "{not JSON"}}])}, "tool_calls"),
        ({"messages": [{"role": "user", "content": "?", "thinking": "hm"}, *chat(0)]}, "thinking"),
        ({"messages": chat(0, weight=0.5)}, "weight"),
        ({"messages": [*chat(0), {"from": "function_call", "value": "call the weather"}, *chat(1)]}, "function_call"),
        ({"messages": json.dumps(chat(0, weight=2))}, "weight"),
        ({"messages": [{"role": "system", "content": "Be long."}, *chat(0)], "system": "Be brief."}, "system"),
        ({"messages": chat(0), "system": ["Be brief."]}, "system"),
        ({"messages": chat(0), "tools": "[{}]"}, "tools"),
        ({"messages": chat(0), "history": [["a", "b"]]}, "history"),
    ],
)
def test_a_lost_part_blocks(tmp_path: Path, row: dict[str, Any], field: str) -> None:
    found = outcome(tmp_path, [*usual(), row, row, row])
    assert found.facts is None
    (finding,) = [finding for finding in found.findings if finding.code == "unsupported-chat"]
    assert (finding.severity, finding.column, finding.count) == ("blocks", field, 3)
    assert [example.row for example in finding.examples] == [121, 122, 123]


def test_history_has_no_place_in_a_plain_prompt(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"ask {i}", "completion": f"yes {i}", "history": []} for i in range(120)]
    (tmp_path / "whole").mkdir()
    assert outcome(tmp_path / "whole", rows, PAIRS).facts is not None
    rows[7]["history"] = [["earlier", "answer"]]
    found = outcome(tmp_path, rows, PAIRS)
    assert found.facts is None and ("unsupported-chat", "history") in [(f.code, f.column) for f in found.findings]


def test_a_name_is_named_and_kept(tmp_path: Path) -> None:
    found = outcome(tmp_path, [{"messages": chat(place, name="Ada")} for place in range(120)])
    assert found.facts is not None
    (finding,) = [finding for finding in found.findings if finding.code == "unread-chat-fields"]
    assert (finding.severity, finding.column, finding.count) == ("warns", "name", 120)


def test_empty_fields_and_weights_of_one_say_nothing(tmp_path: Path) -> None:
    rows = [{"messages": chat(place, weight=1, tool_calls=None, name=""), "tools": None} for place in range(120)]
    found = outcome(tmp_path, rows)
    assert found.facts is not None and not [f for f in found.findings if "chat" in f.code]


def test_a_role_that_is_no_word_is_left_to_the_finding_of_broken_messages() -> None:
    assert list(_of_turn({"role": ["user"], "content": "x"})) == []
