"""Render chat templates in a process of their own, with a limit of time and memory (`rendering_child.py`).

A template is untrusted code, and a single operation of it (`n**n**n`) cannot be interrupted in the process that
executes it. The process starts with the first template, stays for all others until `end_renderer`, and is replaced
when it has been killed.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from worker.engine.data.chats import rendering_child
from worker.engine.data.chats.rendering_child import MAX_SECONDS

_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
"""What the process gets of the environment: no token, no credentials."""
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""A thread of OpenBLAS maps about 40 MB: many cores would use up the limit of memory before a template is rendered."""


class RenderError(Exception):
    """The template raises an error, or exceeds a limit."""


class Rendered(NamedTuple):
    text: str
    turns: list[tuple[int, int]]
    """Start and end of each turn that the template marks."""
    lengths: list[int | None]
    """Length of each beginning's text; None if the conversation's text does not begin with it."""


class _Renderer:
    """The process, started when it is needed; threads take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process unless it runs, and do not wait for it."""
        with self._lock:
            self._running()

    def end(self) -> None:
        """End the process, once it has answered."""
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                _close(process)

    def render(self, request: dict[str, Any]) -> Rendered:
        with self._lock:
            process = self._running()
            line = self._exchange(process, json.dumps(request, default=str))
            if not line.endswith("\n"):
                self._process = None
                raise RenderError(_reason(process))
        answer = json.loads(line)
        if "error" in answer:
            raise RenderError(answer["error"])
        return Rendered(answer["text"], [(start, stop) for start, stop in answer["turns"]], answer["lengths"])

    def _exchange(self, process: subprocess.Popen[str], request: str) -> str:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101 they are pipes
        try:
            process.stdin.write(f"{request}\n")
            process.stdin.flush()
            return process.stdout.readline()
        except BrokenPipeError:
            return ""
        except BaseException:  # an interrupted exchange would leave its answer to the next request
            process.kill()
            process.wait()
            self._process = None
            raise

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
            self._process = subprocess.Popen(  # noqa: S603 a fixed command
                [sys.executable, "-P", "-m", rendering_child.__name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                env=inherited
                | _ONE_THREAD
                | {"PYTHONPATH": os.pathsep.join(sys.path), "TRANSFORMERS_VERBOSITY": "error"},
            )
        return self._process


def _reason(process: subprocess.Popen[str]) -> str:
    _close(process)
    if process.returncode == -signal.SIGALRM:
        return f"it did not finish within {MAX_SECONDS} seconds"
    return f"the process that renders it ended with status {process.returncode}"


def _close(process: subprocess.Popen[str]) -> None:
    with suppress(BrokenPipeError), process:  # closes the pipes; stdin may hold a part of a request
        process.kill()


_RENDERER = _Renderer()


def start_renderer() -> None:
    """Start the process, so that it is ready when the first conversation is rendered."""
    _RENDERER.start()


def end_renderer() -> None:
    """End the process, where no conversation is expected for long; the next one starts it again."""
    _RENDERER.end()


def render(
    template: str,
    messages: list[Any],
    special: dict[str, Any],
    *,
    tools: Any = None,
    marked: bool = False,
    prompt: bool = False,
    beginnings: Sequence[tuple[int, bool]] = (),
) -> Rendered:
    """A rendered conversation, with `marked` the turns that the template marks, and the lengths of its `beginnings`
    (how many messages, and whether with the prompt for the next turn): all in one request.

    `special`: the tokenizer's special tokens. `tools`: a list of JSON schemas. `prompt`: add the prompt for the next
    turn. Raises `RenderError`.
    """
    options = {
        "tools": tools,
        "chat_template": template,
        "return_assistant_tokens_mask": marked,
        "add_generation_prompt": prompt,
        **special,
    }
    return _RENDERER.render({"messages": messages, "beginnings": beginnings, "options": options})
