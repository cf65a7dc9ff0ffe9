"""Chat templates: the process that renders them, and the parts of a conversation that are learnt."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from app.domain.data.dataset import ChatRow, PreferenceChatRow
from app.domain.data.turns import ChatPart, Message, message
from app.domain.failures import RunFailed
from tests.support.tiny.chat_templates import CHATML_TOOLS, FORGETTING, LLAMA, MARKED, tokenizer
from tests.support.tiny.chat_templates import PLAIN as BARE
from worker.engine.data.chats import rendering
from worker.engine.data.chats.chat import as_rendered
from worker.engine.data.chats.parts import before_calls, rendered_parts
from worker.engine.data.chats.rendering import RenderError, render
from worker.engine.data.lines import Line, LineWriter
from worker.engine.tasks.preference import lines_of

CHAT = [{"role": "user", "content": "Hello \ud800 Здравей"}]
PLAIN = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
ENDLESS = "{% set n = 9 %}{% set x = n ** (n ** n) %}"
SPECIAL = {"bos_token": "<s>"}


def _rendered(template: str, **options: bool) -> tuple[str, list[tuple[int, int]]]:
    return render(template, CHAT, SPECIAL, **options)[:2]


def _process() -> Any:
    process = rendering._RENDERER._process
    assert process is not None
    return process


def test_any_text_comes_back_as_it_was_and_marks_with_it() -> None:
    assert _rendered(PLAIN) == ("<s>Hello \ud800 Здравей", [])
    assert _rendered("a{% generation %}bc{% endgeneration %}", marked=True) == ("abc", [(1, 3)])
    assert _rendered("{% if add_generation_prompt %}next{% endif %}", prompt=True) == ("next", [])


def test_beginnings_are_told_by_their_lengths_where_the_conversation_begins_so() -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "bc"}, {"role": "user", "content": "d"}]
    answers = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}b{% endif %}"
    forgets = "{% for m in messages %}{{ m.content if loop.last or m.role == 'user' }}{% endfor %}"
    beginnings = [(1, True), (2, False), (0, False)]
    assert render(answers, chat, SPECIAL, beginnings=beginnings) == ("abcd", [], [2, 3, 0])
    assert render(forgets, chat, SPECIAL, beginnings=beginnings) == ("ad", [], [1, None, 0])


def test_the_process_ends_when_it_is_told_to_and_starts_again() -> None:
    _rendered(PLAIN)
    process = _process()
    rendering.end_renderer()
    assert process.poll() is not None and rendering._RENDERER._process is None
    assert _rendered(PLAIN)[0].startswith("<s>Hello")


@pytest.mark.slow
def test_an_operation_that_never_ends_is_killed_and_the_next_template_renders() -> None:
    _rendered(PLAIN)
    begun = time.monotonic()
    with pytest.raises(RenderError, match="did not finish within 5 seconds"):
        _rendered(ENDLESS)
    assert time.monotonic() - begun < 60  # it would take hours
    assert _rendered(PLAIN)[0].startswith("<s>Hello")


def test_one_process_renders_all_templates_and_is_replaced_if_it_died() -> None:
    _rendered(PLAIN)
    process = _process()
    with pytest.raises(RenderError, match="refused"):
        _rendered("{{ raise_exception('refused') }}")
    _rendered(PLAIN)
    assert _process() is process
    _rendered(PLAIN)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert _rendered(PLAIN)[0].startswith("<s>Hello")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_process_has_neither_torch_nor_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr(rendering, "_RENDERER", rendering._Renderer())
    _rendered(PLAIN)
    proc = Path(f"/proc/{_process().pid}")
    assert "libtorch" not in (proc / "maps").read_text()
    assert "HF_TOKEN" not in (proc / "environ").read_text()
    assert f"{2**30}" in (proc / "limits").read_text().split("Max data size")[1].split("\n")[0]
    os.kill(_process().pid, signal.SIGKILL)
    _process().wait()


TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALLS = {"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Sofia"}}}]}


def user(text: str) -> Message:
    return message("user", text, {})


def assistant(text: str, **more: Any) -> Message:
    return message("assistant", text, more)


TOOL_CHAT = [
    message("system", "Be brief.", {}),
    user("Weather in Sofia?"),
    assistant("", **CALLS),
    message("tool", "12 °C", {"name": "weather"}),
    assistant("It is 12 °C."),
    user("Thanks."),
    assistant("Welcome."),
]


def line(template: str, turns: list[Message], tools: list[Any] | None = None, **changes: Any) -> Line:
    words = tokenizer(template)
    writer = LineWriter(words, {words.eos_token_id}, changes.pop("completion_only", True), **changes)
    return writer.lines([ChatRow("c1", "train", turns, json.dumps(tools) if tools else None)])[0]


def learnt(template: str, of: Line) -> list[str]:
    """The texts in the loss, one for each turn."""
    words = tokenizer(template)
    runs: list[list[int]] = []
    for place, (token, taken) in enumerate(zip(of.ids, of.learnt, strict=True)):
        if taken and (not place or not of.learnt[place - 1]):
            runs.append([])
        if taken:
            runs[-1].append(token)
    return [words.decode(run) for run in runs]


CHATML_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Sofia"}}\n</tool_call>'
LLAMA_CALL = '{"name": "weather", "parameters": {"city": "Sofia"}}<|eot_id|>'


@pytest.mark.parametrize(
    ("template", "ending", "call"),
    [(CHATML_TOOLS, "<|im_end|>\n", f"{CHATML_CALL}<|im_end|>\n"), (LLAMA, "<|eot_id|>", LLAMA_CALL)],
    ids=["chatml", "llama"],
)
def test_exactly_the_assistants_turns_are_in_the_loss(template: str, ending: str, call: str) -> None:
    found = line(template, TOOL_CHAT, TOOLS)
    assert learnt(template, found) == [call, f"It is 12 °C.{ending}", f"Welcome.{ending}"]
    words = tokenizer(template)
    turns = [as_rendered(turn) for turn in TOOL_CHAT]
    assert words.decode(found.ids) == words.apply_chat_template(turns, tools=TOOLS, tokenize=False)


def test_a_marked_template_gives_the_mask_of_transformers() -> None:
    turns = [*TOOL_CHAT[:-1], assistant("Welcome.", reasoning_content="Polite.")]
    words = tokenizer(MARKED)
    theirs = words.apply_chat_template(
        [as_rendered(turn) for turn in turns], tools=TOOLS, return_assistant_tokens_mask=True, return_dict=True
    )
    found = line(MARKED, turns, TOOLS)
    kept = len(found.ids)
    assert found.ids == theirs["input_ids"][:kept]
    assert [int(taken) for taken in found.learnt] == theirs["assistant_masks"][:kept]
    assert not any(theirs["assistant_masks"][kept:])
    assert learnt(MARKED, found)[-1] == "<think>\nPolite.\n</think>\nWelcome.<|im_end|>"


@pytest.mark.parametrize(
    ("template", "mark"), [(CHATML_TOOLS, "<tool_call>"), (FORGETTING, "<tool_call>"), (LLAMA, ""), (BARE, None)]
)
def test_what_a_template_writes_before_calls_is_known(template: str, mark: str | None) -> None:
    assert before_calls(tokenizer(template)) == mark


@pytest.mark.parametrize("template", [CHATML_TOOLS, MARKED, FORGETTING, LLAMA])
def test_an_answer_is_asked_for_after_the_prompt_of_training(template: str) -> None:
    words = tokenizer(template)
    writer = LineWriter(words, {words.eos_token_id}, completion_only=True)
    for end in (3, 5, 7):  # the turns before are a question, a result and a question
        trained = line(template, TOOL_CHAT[:end], TOOLS)
        assert writer.prompt(TOOL_CHAT[: end - 1], json.dumps(TOOLS)).ids == trained.prompt


@pytest.mark.parametrize(
    ("template", "other"),
    [
        (CHATML_TOOLS, {"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {}}}]}),
        (MARKED, {"reasoning_content": "No city."}),
        (FORGETTING, {"reasoning_content": "No city."}),
        (LLAMA, {}),
    ],
    ids=["chatml", "marked", "qwen3", "llama"],
)
def test_each_answer_of_a_pair_is_the_templates_and_alone_in_the_loss(template: str, other: dict[str, Any]) -> None:
    words = tokenizer(template)
    row = PreferenceChatRow("p1", "train", TOOL_CHAT[:2], "", "Where?", *map(json.dumps, (TOOLS, CALLS, other)))
    writer = LineWriter(words, {words.eos_token_id}, completion_only=True, last_turn_only=True)
    (pair,) = lines_of([row], writer)
    before = [as_rendered(turn) for turn in row.messages]
    prompt = words.apply_chat_template(before, tools=TOOLS, add_generation_prompt=True, return_dict=False)
    for found, turn in zip(pair, row.turns, strict=True):
        whole = words.apply_chat_template([*before, as_rendered(turn)], tools=TOOLS, return_dict=False)
        marked_only = template is MARKED  # it ends at its mark
        assert found.ids == (whole[: len(found.ids)] if marked_only else whole)
        assert found.learnt == [place >= len(prompt) for place in range(len(found.ids))]
        assert found.ids[: found.start] == prompt
        assert not words.decode(whole[len(found.ids) :]).strip()


@pytest.mark.parametrize(
    "template", [CHATML_TOOLS, MARKED, FORGETTING, LLAMA], ids=["chatml", "marked", "qwen3", "llama"]
)
@pytest.mark.parametrize("completion_only", [True, False])
def test_a_turn_of_weight_zero_is_context(template: str, completion_only: bool) -> None:
    turns = [
        user("a"),
        assistant("wrong", train=False),
        user("b"),
        assistant("right"),
        user("c"),
        assistant("x", train=False),
    ]
    found = line(template, turns, completion_only=completion_only)
    words = tokenizer(template)
    told = words.decode(found.ids)
    assert "wrong" in told and told.rstrip().endswith(("right<|im_end|>", "right<|eot_id|>"))
    taken = "".join(learnt(template, found))
    assert "wrong" not in taken and "right" in taken
    assert found.reference == "right"
    if completion_only:
        assert len(learnt(template, found)) == 1 and "b" not in taken


def test_a_template_that_forgets_reasoning_keeps_the_turns_and_says_so() -> None:
    turns = [
        user("a"),
        assistant("first", reasoning_content="early"),
        user("b"),
        assistant("second", reasoning_content="late"),
    ]
    words = tokenizer(FORGETTING)
    writer = LineWriter(words, {words.eos_token_id}, completion_only=True)
    (found,) = writer.lines([ChatRow("c1", "train", turns)])
    taken = learnt(FORGETTING, found)
    assert taken == ["first<|im_end|>\n", "<think>\nlate\n</think>\n\nsecond<|im_end|>\n"]
    assert found.findings == {"reasoning-left-out"}
    assert words.decode(found.ids) == words.apply_chat_template([as_rendered(turn) for turn in turns], tokenize=False)


def test_turns_of_a_forgetting_template_are_found_between_calls_too() -> None:
    taken = learnt(FORGETTING, line(FORGETTING, TOOL_CHAT, TOOLS))
    assert taken == [
        f"{CHATML_CALL}<|im_end|>\n",
        "It is 12 °C.<|im_end|>\n",
        "<think>\n\n</think>\n\nWelcome.<|im_end|>\n",
    ]


LOST: dict[str, tuple[str, list[Message], list[Any] | None, str]] = {
    "tools": (BARE, [user("a"), assistant("b")], TOOLS, "loses its tools"),
    "calls": (BARE, TOOL_CHAT, None, "loses tool_calls of message 3"),
    "reasoning": (
        BARE,
        [user("a"), assistant("b", reasoning_content="hm")],
        None,
        "loses reasoning_content of message 2",
    ),
    "the text beside a call": (LLAMA, [user("a"), assistant("Wait.", **CALLS)], None, "loses content of message 2"),
    "the system prompt": (
        BARE.replace("{%- for message in messages %}", "{%- for message in messages if message.role != 'system' %}"),
        *(TOOL_CHAT[:2] + TOOL_CHAT[-1:], None, "loses content of message 1"),
    ),
    "a thought that is text": (
        BARE.replace("message.content", "message.content.split('</think>')[-1]"),
        *([user("a"), assistant("<think>\nhm\n</think>b")], None, "loses <think> of message 2"),
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_what_a_template_leaves_out_is_refused(name: str) -> None:
    template, turns, tools, sentence = LOST[name]
    with pytest.raises(RunFailed, match=re.escape(sentence)):
        line(template, turns, tools)


def test_the_reference_of_a_call_is_what_the_template_writes() -> None:
    assert line(CHATML_TOOLS, TOOL_CHAT[:3], TOOLS).reference == CHATML_CALL


@pytest.mark.parametrize(
    ("template", "lacking"),
    [
        (CHATML_TOOLS, {"reasoning_content"}),
        (FORGETTING, set()),
        (MARKED, set()),
        (LLAMA, {"content beside tool_calls", "reasoning_content"}),
        (BARE, {"tools", "tool_calls", "reasoning_content"}),
        ("{{ raise_exception('no') }}", set(get_args(ChatPart))),
    ],
    ids=["chatml", "qwen3", "marked", "llama", "plain", "refusing"],
)
def test_an_inspection_tries_each_part(template: str, lacking: set[str]) -> None:
    parts = rendered_parts(tokenizer(template))
    assert parts is not None and set(get_args(ChatPart)) - set(parts) == lacking
