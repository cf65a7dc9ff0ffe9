"""Tools and reasoning at the OpenAI-compatible endpoint, by its own client: a tiny model writes what it is told."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from app.features.serving.rules import ModelJob, Subject
from tests.features.serving.openai.test_server import InThisProcess, installation, started
from tests.support.rows import inferred
from tests.support.rows.accounts import Installation
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny.chat_templates import CHATML_TOOLS, FORGETTING, LLAMA, PLAIN, tokenizer
from worker.features.serving.inference import generate
from worker.features.serving.openai.answers import Reader

__all__ = ["installation"]

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ASK = {"role": "user", "content": "Weather?"}
CITIES = [{"name": "weather", "arguments": {"city": city}} for city in ("Sofia", "Varna")]
HERMES = "".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>\n" for call in CITIES)
LLAMAS = json.dumps({"name": "weather", "parameters": {"city": "Sofia"}})
THINKING = CHATML_TOOLS.replace("assistant\\n' }}{%- endif %}", "assistant\\n<think>\\n' }}{%- endif %}")
"""Its generation prompt opens the reasoning."""


class Served(InThisProcess):
    """One tiny base model, whose tokens a test chooses."""

    def __init__(self, folder: Path) -> None:
        base = tiny_lm.save_model(folder / "base", "llama", vocab_size=320, max_position_embeddings=4096)
        tokenizer(CHATML_TOOLS).save_pretrained(base)
        job = ModelJob(
            key="base 1/1", job=tiny_lm.job(folder / "job", base, "causal-lm", tiny_lm.pairs()), base_bytes=1000
        )
        self.jobs, self.models = {(1, True): job}, inferred.models()
        (self.held,) = self.models.ready([job], 0, lambda *_: None, lambda: None)

    def job(self, subject: Subject) -> ModelJob:
        return self.jobs[1, True]


class Forced(LogitsProcessor):
    """The next tokens, whatever the model computes."""

    def __init__(self, ids: list[int]) -> None:
        self.left, self.prompt = ids, []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.prompt = self.prompt or input_ids[0].tolist()
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([self.left.pop(0)]), 0.0)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The model."""
    return Served(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def client(engine: Served, installation: Installation) -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    running, url = started(engine, installation, True)
    yield openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    running.should_exit = True


@pytest.fixture
def told(engine: Served, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Chooses a template and what the model writes; gives what it has read."""

    def tell(template: str, text: str) -> Forced:
        words = engine.held.tokenizer = tokenizer(template)
        forced = Forced([*words(text, add_special_tokens=False)["input_ids"], words.eos_token_id])
        monkeypatch.setattr(generate, "LogitsProcessorList", lambda own: LogitsProcessorList([forced, *own]))
        return forced

    return tell


def asked(client: openai.OpenAI, stream: bool, **changes: Any) -> tuple[Any, str]:
    """The message as a dictionary, without ids of calls, and why it ended."""
    request: Any = {"model": "base", "messages": [ASK], "tools": [TOOL], "max_tokens": 400} | changes
    if not stream:
        choice = client.chat.completions.create(**request).choices[0]
        message, finish = choice.message.model_dump(exclude_none=True), choice.finish_reason
    else:
        message, finish = {}, ""
        for piece in client.chat.completions.create(**request, stream=True):
            delta = piece.choices[0].delta.model_dump(exclude_none=True)
            for name, value in delta.items():
                message[name] = message.get(name, type(value)()) + value
            finish = piece.choices[0].finish_reason or finish
    calls = message.pop("tool_calls", [])
    assert all(len(call.pop("id")) == 9 for call in calls)
    assert [call.pop("index", place) for place, call in enumerate(calls)] == [*range(len(calls))]
    functions = [call["function"] | {"arguments": json.loads(call["function"]["arguments"])} for call in calls]
    return (message.get("reasoning_content"), message.get("content") or "", functions), finish


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("template", "text", "parts", "finish"),
    [
        (CHATML_TOOLS, HERMES, (None, "", CITIES), "tool_calls"),
        (CHATML_TOOLS, f"I look.\n{HERMES}", (None, "I look.", CITIES), "tool_calls"),
        (FORGETTING, f"<think>\nWhere?\n</think>\n\n{HERMES}", ("Where?", "", CITIES), "tool_calls"),
        (THINKING, f"Where?\n</think>\n\n{HERMES}", ("Where?", "", CITIES), "tool_calls"),
        (LLAMA, LLAMAS, (None, "", CITIES[:1]), "tool_calls"),
        (LLAMA, '{"sum": 2}', (None, '{"sum": 2}', []), "stop"),
        (CHATML_TOOLS, "It is <b>12</b> °C.\n", (None, "It is <b>12</b> °C.\n", []), "stop"),
        (CHATML_TOOLS, HERMES.replace("weather", "rain"), (None, HERMES.replace("weather", "rain"), []), "stop"),
        (CHATML_TOOLS, "<tool_call>\n{", (None, "<tool_call>\n{", []), "stop"),
        (CHATML_TOOLS, "<think>on and on", ("on and on", "", []), "stop"),
    ],
)
def test_calls_and_reasoning_are_told_apart_from_text(
    client: openai.OpenAI, told: Any, stream: bool, template: str, text: str, parts: Any, finish: str
) -> None:
    told(template, text)
    assert asked(client, stream) == (parts, finish)


def test_a_conversation_is_rendered_with_its_tools_and_calls_and_answers_can_be_sent_back(
    client: openai.OpenAI, told: Any
) -> None:
    told(CHATML_TOOLS, HERMES)
    request: Any = {"model": "base", "tools": [TOOL], "max_tokens": 400}
    answer = client.chat.completions.create(messages=[ASK], **request).choices[0].message  # type: ignore[list-item]
    calls: Any = answer.tool_calls
    result = {"role": "tool", "tool_call_id": calls[0].id, "content": "12 °C"}
    forced = told(CHATML_TOOLS, "It is 12 °C.")
    last = client.chat.completions.create(messages=[ASK, answer, result], **request).choices[0]  # type: ignore[list-item]
    assert last.message.content == "It is 12 °C." and last.finish_reason == "stop"
    turns: Any = [ASK, {"role": "assistant", "content": "", "tool_calls": [{"function": c} for c in CITIES]}, result]
    whole = tokenizer(CHATML_TOOLS).apply_chat_template(
        turns, tools=[TOOL], add_generation_prompt=True, return_dict=False
    )
    assert forced.prompt == whole


def test_without_a_choice_of_tools_the_model_sees_none(client: openai.OpenAI, told: Any) -> None:
    forced = told(CHATML_TOOLS, HERMES)
    assert asked(client, False, tool_choice="none") == ((None, HERMES, []), "stop")
    assert "weather" not in tokenizer(CHATML_TOOLS).decode(forced.prompt)


CALLING = {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "a", "function": CITIES[0]}]}


@pytest.mark.parametrize(
    ("template", "change", "says"),
    [
        (CHATML_TOOLS, {"tool_choice": "required"}, "Send auto or none"),
        (CHATML_TOOLS, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}, "Send auto or none"),
        (CHATML_TOOLS, {"tools": [{"type": "web_search"}]}, "Write each tool as"),
        (CHATML_TOOLS, {"messages": [ASK, CALLING | {"tool_calls": [{"function": {}}]}]}, "Write each of tool_calls"),
        (
            CHATML_TOOLS,
            {"messages": [ASK, CALLING | {"tool_calls": [{"id": 1, "function": CITIES[0]}]}]},
            "Write each of tool_calls",
        ),
        (
            CHATML_TOOLS,
            {
                "messages": [
                    ASK,
                    CALLING | {"tool_calls": [{"function": {"name": "w", "arguments": '{"a": "\\ud83c"}'}}]},
                ]
            },
            "Write each of tool_calls",
        ),
        (CHATML_TOOLS, {"messages": [ASK, {"role": "assistant"}]}, "needs content"),
        (CHATML_TOOLS, {"messages": [ASK | {"reasoning_content": "Hm."}]}, "Only a message of the assistant"),
        (CHATML_TOOLS, {"messages": [ASK | {"tool_call_id": "a"}]}, "Only a message with the role tool"),
        (PLAIN, {}, "leaves out tools"),
        (LLAMA, {"messages": [ASK, CALLING]}, "leaves out messages.1.content"),
    ],
)
def test_what_cannot_be_done_is_refused(
    client: openai.OpenAI, told: Any, template: str, change: dict[str, Any], says: str
) -> None:
    told(template, "text")
    with pytest.raises(openai.BadRequestError, match=says):
        asked(client, False, **change)


def test_a_malformed_call_hides_no_other_one() -> None:
    text = f'<tool_call>{{"name": "weather"</tool_call>\n{HERMES}'
    assert len(Reader(["weather"]).read(text, done=True).calls) == 2
    assert not Reader(["weather"]).read(HERMES.replace('"Sofia"', "NaN").replace('"Varna"', "NaN"), done=True).calls


@pytest.mark.parametrize("reasons", [False, True])
@pytest.mark.parametrize("mark", ["<tool_call>", "[TOOL_CALLS]", "", None])
def test_parts_only_grow_while_an_answer_is_written(mark: str | None, reasons: bool) -> None:
    listed = json.dumps(CITIES)
    for text in (f"<think>a</think> b {HERMES} c", f"[TOOL_CALLS]{listed}", listed, f"{listed} and text", "a < b"):
        reader = Reader(["weather"], reasons=reasons, mark=mark)
        before = reader.read("", done=False)
        for end in (*range(len(text)), None):
            now = reader.read(text[:end], done=end is None)
            assert now.reasoning.startswith(before.reasoning) and now.content.startswith(before.content)
            assert list(now.calls[: len(before.calls)]) == list(before.calls)
            before = now
        assert before == Reader(["weather"], reasons=reasons, mark=mark).read(text, done=True)
