"""Work on request, and what a judge is sent."""

import json
from concurrent.futures import Future

import pytest

from worker.asking.predicted import prompt_text, reference_of
from worker.children.work import WorkCancelled
from worker.nodes import claimed


class LateFuture(Future[int]):
    """Work that ends just after a wait for it has timed out."""

    def result(self, timeout: float | None = None) -> int:
        done = super().result()
        if timeout is not None:
            raise TimeoutError
        return done


def test_claimed_work_ends_with_its_wait_its_error_or_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimed, "Future", LateFuture)
    assert claimed.while_reporting(lambda: 7, lambda share: True, 0.5) == 7

    def late() -> None:
        raise TimeoutError("the store is slow")

    with pytest.raises(TimeoutError, match="the store is slow"):
        claimed.while_reporting(late, lambda share: True, 0.5)
    with pytest.raises(WorkCancelled):
        claimed.while_reporting(lambda: 7, lambda share: share < 0.5, 0.5)


TOOLS = json.dumps([{"type": "function", "function": {"name": "weather"}}])
CALLS = json.dumps({"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {}}}]})
THOUGHTS = json.dumps({"reasoning_content": "It is a number."})
ASK = {"role": "user", "content": "Weather?", "more": None}


def test_a_judge_sees_conversations_with_tools_and_reasoning_and_texts_as_before() -> None:
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
    # So that scores of earlier judgements are known again.
    turns = [ASK, {"role": "assistant", "content": "Sun."}, ASK, {"role": "assistant", "content": "Rain."}]
    assert prompt_text({"messages": turns, "tools": None}) == "Weather?\nSun.\nWeather?"
