"""A server with OpenAI's API on this machine, which answers from tables, or misbehaves."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


class Stub(ThreadingHTTPServer):
    """`models` has the answers of each model by prompt (of a chat: by the last turn)."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, models: Mapping[str, Mapping[str, str]]) -> None:
        self.models = models
        self.raw: Callable[[Json], tuple[int, bytes, dict[str, str]] | None] = lambda _request: None
        """Answers in place of the models: status, body, headers; None leaves it to them."""
        self.key = ""
        self.prompt_tokens: Callable[[str], int] = lambda prompt: len(prompt.split())
        self.seen: list[tuple[str, Json]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.place}/v1"

    def reply(self, path: str, request: Json, authorization: str) -> tuple[int, bytes, dict[str, str]]:
        """The answer to a request."""
        self.seen.append((path, request))
        if raw := self.raw(request):
            return raw
        if self.key and authorization != f"Bearer {self.key}":
            return _error(401, f"Incorrect API key provided: {authorization}")
        if path not in ("/v1/completions", "/v1/chat/completions"):
            return _error(404, "Not Found")
        if (answers := self.models.get(request["model"])) is None:
            return _error(404, f"The model {request['model']} does not exist. Key {self.key}")
        chat = path.endswith("chat/completions")
        prompt = request["messages"][-1]["content"] if chat else request["prompt"]
        usage = {"prompt_tokens": self.prompt_tokens(prompt)}
        text = answers[prompt]
        content: Json = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {"index": 0, "finish_reason": "stop", **content}
        return 200, json.dumps({"choices": [choice], "usage": usage}).encode(), {}


def _error(status: int, message: str) -> tuple[int, bytes, dict[str, str]]:
    return status, json.dumps({"error": {"message": message}}).encode(), {}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Stub)
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, body, headers = self.server.reply(self.path, request, self.headers.get("authorization", ""))
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def stubbed(models: Mapping[str, Mapping[str, str]]) -> Iterator[Stub]:
    """A running stub."""
    server = Stub(models)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
