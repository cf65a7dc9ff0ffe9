"""Chat templates are rendered in a process of their own."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from worker.engine.data.chats import rendering
from worker.engine.data.chats.rendering import RenderError, render

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


def test_one_process_renders_all_templates() -> None:
    _rendered(PLAIN)
    process = _process()
    with pytest.raises(RenderError, match="refused"):
        _rendered("{{ raise_exception('refused') }}")
    _rendered(PLAIN)
    assert _process() is process


def test_a_process_that_died_is_replaced() -> None:
    _rendered(PLAIN)
    process = _process()
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
