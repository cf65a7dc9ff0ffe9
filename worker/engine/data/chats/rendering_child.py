"""The process that renders chat templates: `python -m worker.engine.data.chats.rendering_child`.

Each line on stdin is a request and gets one line on stdout (see `rendering.py`). The process ends at the end of stdin,
and the kernel ends it by SIGALRM when a request takes too long, even inside a single operation. It never imports torch.
"""

import importlib
import json
import resource
import signal
import sys
from typing import Any

from app.domain.errors import first_line

MAX_SECONDS = 5
"""Wall time of a conversation; a normal one takes a few milliseconds."""
MAX_BYTES = 2**30
"""Memory of the process."""
MAX_CHARACTERS = 2**24
"""Length of a template, and of its output."""


def main() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MAX_BYTES if hard == resource.RLIM_INFINITY else min(MAX_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    sys.modules["torch"] = None  # type: ignore[assignment]  # transformers would import it: seconds, and 300 MiB
    render = importlib.import_module("transformers.utils.chat_template_utils").render_jinja_template
    for line in sys.stdin:
        signal.alarm(MAX_SECONDS)
        answer = _answer(render, json.loads(line))
        signal.alarm(0)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _answer(render: Any, request: dict[str, Any]) -> str:
    messages, beginnings, options = request["messages"], request["beginnings"], request["options"]
    try:
        [text], turns = render(conversations=[messages], **options)
        if len(text) > MAX_CHARACTERS:
            return json.dumps({"error": f"it writes {len(text)} characters"})
        lengths = []
        for count, prompt in beginnings:
            [beginning], _turns = render(
                conversations=[messages[:count]], **(options | {"add_generation_prompt": prompt})
            )
            lengths.append(len(beginning) if text.startswith(beginning) else None)
        return json.dumps({"text": text, "turns": turns[0] if turns else [], "lengths": lengths})
    except Exception as error:  # a template may raise anything
        return json.dumps({"error": first_line(error)})


if __name__ == "__main__":
    main()
