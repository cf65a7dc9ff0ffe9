"""Turns of chats: what is read, and what is lost and said."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.data.dataset import ROWS, DatasetFacts
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from tests.support.ingested import lines, prepared
from worker.engine.data.batches.batches import read
from worker.ingest.rows.turns import tools_of, turns_of
from worker.ingest.unread import _of_turn

WEATHER = {"name": "weather", "arguments": {"city": "Sofia"}}
CALL = {"type": "function", "function": WEATHER}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("turn", "role", "content", "more"),
    [
        (
            {"role": "assistant", "content": "Hm.", "tool_calls": [{"id": "1", **CALL}]},
            *("assistant", "Hm.", {"tool_calls": [{"id": "1", **CALL}]}),
        ),
        (
            {"role": "assistant", "content": None, "function_call": WEATHER | {"arguments": '{"city": "Sofia"}'}},
            *("assistant", "", {"tool_calls": [CALL]}),
        ),
        ({"from": "function_call", "value": json.dumps(WEATHER)}, "assistant", "", {"tool_calls": [CALL]}),
        ({"from": "observation", "value": "12"}, "tool", "12", {}),
        (
            {"role": "tool", "tool_call_id": "1", "name": "weather", "content": [{"type": "text", "text": "12"}]},
            *("tool", "12", {"tool_call_id": "1", "name": "weather"}),
        ),
        ({"from": "gpt", "value": "<tool_call>{}</tool_call>"}, "assistant", "<tool_call>{}</tool_call>", {}),
        ({"role": "assistant", "content": "4", "thinking": "2+2"}, "assistant", "4", {"reasoning_content": "2+2"}),
        ({"role": "assistant", "content": "4", "weight": 0}, "assistant", "4", {"train": False}),
        ({"role": "assistant", "content": "4", "train": False, "weight": None}, "assistant", "4", {"train": False}),
        ({"role": "assistant", "content": "4", "weight": 1}, "assistant", "4", {}),
    ],
)
def test_a_turn_is_read(turn: dict[str, Any], role: str, content: str, more: dict[str, Any]) -> None:
    (read_turn,) = turns_of([turn])
    assert isinstance(read_turn, dict)
    assert (read_turn["role"], read_turn["content"]) == (role, content)
    assert json.loads(read_turn.get("more") or "{}") == more


def test_tools_get_openais_form() -> None:
    assert tools_of([TOOL]) == tools_of(json.dumps([TOOL["function"]])) == json.dumps([TOOL])
    assert tools_of("[]") == tools_of(None) == "" and tools_of("weather") is tools_of([{}]) is None


def made(
    folder: Path, rows: list[dict[str, Any]], mapping: ColumnMapping | None = None
) -> tuple[DatasetFacts, list[Any]]:
    found = prepared(folder, {"data.jsonl": lines(rows)}, mapping, Splitting(kind="random"))
    assert found.facts is not None, found.findings
    splits = read(str(folder / "rows.parquet"), found.facts.format)
    return found.facts, [row for split in splits.values() for row in split]


def rows_of(folder: Path, rows: list[dict[str, Any]], mapping: ColumnMapping | None = None) -> list[Any]:
    return made(folder, rows, mapping)[1]


def test_a_line_of_openais_fine_tuning_keeps_tools_and_weights(tmp_path: Path) -> None:
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Weather {place}?"},
                {"role": "assistant", "content": "No.", "weight": 0},
                {"role": "user", "content": "Do."},
                {"role": "assistant", "tool_calls": [{"id": "1", **CALL}], "weight": 1},
            ],
            "tools": [TOOL],
        }
        for place in range(20)
    ]
    for row in rows_of(tmp_path, lines):
        assert json.loads(row.tools) == [TOOL]
        assert [turn.get("more") for turn in row.messages][::2] == [None, None]
        assert json.loads(row.messages[1]["more"]) == {"train": False}
        assert json.loads(row.messages[3]["more"])["tool_calls"][0]["function"] == WEATHER


def test_parts_are_counted(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!", "reasoning_content": "hm"}]
    rows: list[dict[str, Any]] = [{"messages": [{"role": "user", "content": f"{i}"}, chat[1]]} for i in range(12)]
    rows += [
        {"messages": [{"role": "user", "content": f"{i}"}, chat[1] | {"reasoning_content": ""}]} for i in range(12, 20)
    ]
    found = prepared(tmp_path, {"data.jsonl": lines(rows)}, None, Splitting(kind="random"))
    assert found.facts is not None
    (part,) = found.facts.chat_parts.items()
    assert part[0] == "reasoning_content" and part[1].count == 12 and len(part[1].items) == 3


def test_system_columns_and_alpaca_history_become_turns(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]
    rows = [
        {"conversations": [{"from": "human", "value": f"hi {i}"}, turns[1]], "system": "Be brief."} for i in range(20)
    ]
    for row in rows_of(tmp_path, rows):
        assert row.messages[0] == {"role": "system", "content": "Be brief."}
    rows = [
        {"instruction": f"Add {i}", "input": "one", "output": "two", "system": "Be brief.", "history": [["hi", "ho"]]}
        for i in range(20)
    ]
    for row in rows_of(tmp_path, rows):
        told = [(turn["role"], turn["content"]) for turn in row.messages]
        assert told[:3] == [("system", "Be brief."), ("user", "hi"), ("assistant", "ho")]
        assert told[3][1].startswith("Add ") and told[3][1].endswith("\n\none") and told[4] == ("assistant", "two")


def test_preference_pairs_keep_tools_and_system(tmp_path: Path) -> None:
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"hi {i}"}], "tools": [TOOL]},
            "preferred_output": [{"role": "assistant", "content": "ho"}],
            "non_preferred_output": [{"role": "assistant", "content": "no"}],
            "system": "Be brief.",
        }
        for i in range(20)
    ]
    for row in rows_of(tmp_path, rows):
        assert row.messages[0]["role"] == "system" and json.loads(row.tools) == [TOOL]


def pairs(chosen: dict[str, Any], rejected: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "user", "content": f"hi {i}"}],
            "chosen": [{"role": "assistant", "content": "", **chosen}],
            "rejected": [{"role": "assistant", "content": "", **rejected}],
            "tools": [TOOL],
        }
        for i in range(20)
    ]


def test_preferred_answers_may_call_tools_and_reason(tmp_path: Path) -> None:
    rows = pairs({"tool_calls": [CALL]}, {"content": "no", "reasoning_content": "why?"})
    facts, found = made(tmp_path, rows)
    assert {part: of.count for part, of in facts.chat_parts.items()} == {
        "tools": 20, "tool_calls": 20, "reasoning_content": 20
    }  # fmt: skip
    for row in found:
        better, worse = row.turns
        assert better["content"] == "" and json.loads(better["more"])["tool_calls"][0]["function"]["name"] == "weather"
        assert worse == {"role": "assistant", "content": "no", "more": '{"reasoning_content": "why?"}'}
        assert row.answers == (better["more"], 'no {"reasoning_content": "why?"}')


def test_old_files_without_tools_or_with_plain_answers_are_read(tmp_path: Path) -> None:
    facts, found = made(tmp_path, pairs({"content": "ho"}, {"content": "no"}))
    file = tmp_path / "rows.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["tools", "chosen_more", "rejected_more"]), file)
    again = [row for rows in read(str(file), facts.format).values() for row in rows]
    assert again == [row._replace(tools=None) for row in found]
    turns = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]] * 2
    table = pa.table({"item": ["a", "b"], "split": ["train", "test"], "messages": turns})
    pq.write_table(table, tmp_path / "old.parquet")
    (row,) = read(str(tmp_path / "old.parquet"), "messages")["train"]
    assert row == ROWS["messages"]("a", "train", turns[0], None)  # type: ignore[call-arg, arg-type]


def test_answers_are_pairs_if_they_differ_in_calls_and_count_in_the_loss(tmp_path: Path) -> None:
    other = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Varna"}}}
    assert len(rows_of(tmp_path, pairs({"tool_calls": [CALL]}, {"tool_calls": [other]}))) == 20
    data = lines(pairs({"content": "ho", "weight": 0}, {"content": "no"}))
    found = prepared(tmp_path, {"data.jsonl": data}, None, Splitting(kind="random"))
    assert found.facts is None
    assert ("unsupported-chat", "train", 20) in [(f.code, f.column, f.count) for f in found.findings]


def test_fields_that_parquet_fills_in_are_no_arguments(tmp_path: Path) -> None:
    def calls(arguments: dict[str, str]) -> dict[str, Any]:
        return {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}

    chats = [[{"role": "user", "content": f"{i}"}, calls({"a": "1"} if i % 2 else {"b": "2"})] for i in range(20)]
    pq.write_table(pa.table({"messages": chats}), tmp_path / "data.parquet")
    source = {"data.parquet": (tmp_path / "data.parquet").read_bytes()}
    assert prepared(tmp_path, source, None, Splitting(kind="random")).facts is not None
    rows = read(str(tmp_path / "rows.parquet"), "messages")["train"]
    told = [json.loads(row.messages[1]["more"])["tool_calls"][0]["function"]["arguments"] for row in rows]  # type: ignore[union-attr]
    assert {json.dumps(arguments) for arguments in told} == {'{"a": "1"}', '{"b": "2"}'}


CHATS = ColumnMapping(format="messages", columns={"messages": "messages"})
PAIRS = ColumnMapping(format="prompt-completion", columns={"prompt": "prompt", "completion": "completion"})


def chat(place: int, **fields: Any) -> list[dict[str, Any]]:
    """A conversation whose answer has more fields."""
    return [
        {"role": "user", "content": f"question {place}"},
        {"role": "assistant", "content": f"answer {place}", **fields},
    ]


def outcome(folder: Path, rows: list[dict[str, Any]], mapping: ColumnMapping = CHATS) -> Any:
    return prepared(folder, {"data.jsonl": lines(rows)}, mapping, Splitting(kind="random"))


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


def test_names_are_kept_empty_fields_ignored_and_unknown_roles_left_to_a_finding(tmp_path: Path) -> None:
    found = outcome(tmp_path, [{"messages": chat(place, name="Ada")} for place in range(120)])
    assert found.facts is not None
    (finding,) = [finding for finding in found.findings if finding.code == "unread-chat-fields"]
    assert (finding.severity, finding.column, finding.count) == ("warns", "name", 120)
    rows = [{"messages": chat(place, weight=1, tool_calls=None, name=""), "tools": None} for place in range(120)]
    found = outcome(tmp_path, rows)
    assert found.facts is not None and not [f for f in found.findings if "chat" in f.code]
    assert list(_of_turn({"role": ["user"], "content": "x"})) == []
