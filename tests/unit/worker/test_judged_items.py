"""What a judge is sent of a test item."""

import json

from worker.predicted import prompt_text, reference_of

TOOLS = json.dumps([{"type": "function", "function": {"name": "weather"}}])
CALLS = json.dumps({"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {}}}]})
THOUGHTS = json.dumps({"reasoning_content": "It is a number."})
ASK = {"role": "user", "content": "Weather?", "more": None}


def test_a_judge_sees_tools_calls_results_and_reasoning() -> None:
    turns = [
        ASK,
        {"role": "assistant", "content": "Sun.", "more": json.dumps({"train": False})},
        ASK,
        {"role": "assistant", "content": "", "more": CALLS},
        {"role": "tool", "content": "12 °C", "more": None},
        {"role": "assistant", "content": "12.", "more": THOUGHTS},
    ]
    item = {"messages": turns, "tools": TOOLS}
    assert prompt_text(item) == (
        f"user: Weather?\nassistant: Sun.\nuser: Weather?\nassistant: {CALLS}\ntool: 12 °C\ntools: {TOOLS}"
    )
    assert reference_of(item) == f"12. {THOUGHTS}"
    assert reference_of({"messages": turns[:4]}) == CALLS


def test_a_conversation_of_texts_is_sent_as_before() -> None:
    """So that scores of earlier judgements are known again."""
    turns = [ASK, {"role": "assistant", "content": "Sun."}, ASK, {"role": "assistant", "content": "Rain."}]
    assert prompt_text({"messages": turns, "tools": None}) == "Weather?\nSun.\nWeather?"
