"""The command line's client before servers that break off, start anew, or are somebody else's."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR

import pytest

from app.cli import client as clients
from app.cli.client import Client
from app.domain.errors import Invalid, Unavailable, VeznaError
from tests.integration.test_cli import vezna

keys: list[str] = []
"""Of the POSTs that a server has received, and their bodies."""
bodies: list[bytes] = []
PROGRESS = 'event: progress\ndata: {"n": 1}\n\n'
END = "event: end\ndata: {}\n\n"
Answer = tuple[int, str, str]


@contextmanager
def serving(answer: Callable[[int], Answer]) -> Iterator[str]:
    """URL of a server that gives its n-th answer: status, type, text."""
    asked = iter(range(1000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, text = answer(next(asked))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            keys.append(self.headers["Idempotency-Key"])
            bodies.append(body)
            status, kind, text = answer(next(asked))
            if not status:  # it ends before it answers
                self.connection.shutdown(SHUT_RDWR)
                return
            self.send_response(status)
            self.send_header("content-type", kind)
            if status == 409:
                self.send_header("retry-after", "5")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_stream_is_over_when_it_says_so_and_not_when_it_breaks() -> None:
    answers: list[Answer] = [
        (200, "text/event-stream", PROGRESS),
        (503, "application/problem+json", '{"detail": "away", "errors": []}'),
        (200, "text/event-stream", PROGRESS + END),
    ]
    with serving(lambda n: answers[n]) as url:
        assert list(Client(url).events("/studies/1/events")) == [{"n": 1}, {"n": 1}]


def test_a_server_that_stays_away_is_given_up_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PATIENCE_SECONDS", 0.2)
    with pytest.raises(Unavailable, match="no longer answers"):
        list(Client("http://127.0.0.1:9").events("/studies/1/events"))


@pytest.mark.parametrize(
    "answer",
    [
        (200, "text/html", "<html>"),
        (404, "text/html", "<html>"),
        (404, "application/json", '["no problem"]'),
        (422, "application/json", '{"detail": [], "errors": [1]}'),
    ],
)
def test_another_server_is_recognised(answer: Answer) -> None:
    with serving(lambda _: answer) as url:
        with pytest.raises(VeznaError, match="Check the address"):
            Client(url).get("/studies/1")
        with pytest.raises(VeznaError, match="Check the address"):
            list(Client(url).events("/studies/1/events"))


def test_no_message_has_the_password_of_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clients, "PATIENCE_SECONDS", 0.0)
    (spec := tmp_path / "run.yaml").write_text("seed: 1")
    with serving(
        lambda n: (202, "application/json", '{"id": 7, "study_id": 8}') if n < 2 else (404, "text/html", "")
    ) as url:
        secret = url.replace("://", "://team:secret@")
        assert vezna(monkeypatch, "submit", str(spec), "--url", secret) == 0
        assert vezna(monkeypatch, "recipes", "run", "seed-noise", "--url", secret) == 0
        assert vezna(monkeypatch, "watch", "1", "--url", secret) == 1
        assert vezna(monkeypatch, "list", "--url", secret) == 1
    for address in (
        "http://team:secret@127.0.0.1:9",
        "http://team:a secret@[::1:8000",
        "http://team:secret@[::1:8000",
        "team:secret@127.0.0.1",
    ):
        assert vezna(monkeypatch, "list", "--url", address) == 1
    assert vezna(monkeypatch, "watch", "1", "--url", "http://team:secret@127.0.0.1:9") == 1
    printed = "".join(capsys.readouterr())
    assert f"queued: {url}/runs/7" in printed and f"queued: {url}/studies/8" in printed
    assert "127.0.0.1:9" in printed and "secret" not in printed


def test_an_address_that_cannot_be_parsed_is_named() -> None:
    with pytest.raises(Invalid, match=r"http://\[::1:8000 is not an address"):
        Client("http://[::1:8000")


@pytest.mark.parametrize("send", ["post", "upload"])
def test_a_request_whose_answer_is_lost_is_sent_again_with_its_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, send: str
) -> None:
    monkeypatch.setattr(clients.time, "sleep", lambda _seconds: None)
    file = tmp_path / "a.csv"
    file.write_text("text,label")
    keys.clear()
    bodies.clear()
    answers: list[Answer] = [
        (0, "", ""),
        (409, "application/problem+json", '{"detail": "in progress", "errors": []}'),
        (202, "application/json", '{"id": 7}'),
    ]
    with serving(lambda n: answers[n]) as url:
        client = Client(url)
        if send == "upload":
            answer = client.upload("/uploads", [file], {}, partial(Path.open, mode="rb"))
        else:
            answer = client.post("/runs", {"seed": 1})
    assert answer == {"id": 7}
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert all(b"text,label" in body if send == "upload" else body == bodies[0] for body in bodies)


def test_each_request_has_a_key_of_its_own_and_an_answer_is_final() -> None:
    keys.clear()
    answers: list[Answer] = [(202, "application/json", "{}"), (503, "application/problem+json", '{"detail": "away"}')]
    with serving(lambda n: answers[n]) as url:
        client = Client(url)
        client.post("/runs", {})
        with pytest.raises(Unavailable, match="away"):
            client.post("/runs", {})
    assert len(set(keys)) == len(keys) == 2
