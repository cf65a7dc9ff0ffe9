"""The clients of the command line and of scripts before servers that break off, start anew, or are somebody else's."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import pytest

from app.cli.client import Client
from app.domain.errors import Invalid, Unavailable, VeznaError
from tests.integration.web.test_cli import vezna
from vezna import AsyncClient, client
from vezna.errors import ClientError, NotVezna, Refused, UnknownAnswer, Unreachable
from vezna.sending import connection

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
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.slow
def test_a_stream_is_over_when_it_says_so_and_not_when_it_breaks() -> None:
    answers: list[Answer] = [
        (200, "text/event-stream", PROGRESS),
        (503, "application/problem+json", '{"detail": "away", "errors": []}'),
        (200, "text/event-stream", PROGRESS + END),
    ]
    with serving(lambda n: answers[n]) as url:
        assert list(Client(url).events("/studies/1/events")) == [{"n": 1}, {"n": 1}]


def test_a_server_that_stays_away_is_given_up_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.2)
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


@pytest.mark.slow
def test_no_message_has_the_password_of_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 0.0)
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
    monkeypatch.setattr(client.time, "sleep", lambda _seconds: None)
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
        if send == "upload":
            answer = Client(url).upload("/uploads", [file], {}, partial(Path.open, mode="rb"))
        else:
            answer = Client(url).post("/runs", {"seed": 1})
    assert answer == {"id": 7}
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert all(b"text,label" in body if send == "upload" else body == bodies[0] for body in bodies)


def test_each_request_has_a_key_of_its_own_and_an_answer_is_final() -> None:
    keys.clear()
    answers: list[Answer] = [(202, "application/json", "{}"), (503, "application/problem+json", '{"detail": "away"}')]
    with serving(lambda n: answers[n]) as url:
        ours = Client(url)
        ours.post("/runs", {})
        with pytest.raises(Unavailable, match="away"):
            ours.post("/runs", {})
    assert len(set(keys)) == len(keys) == 2


# --- the client for scripts -------------------------------------------------------------------------------------------


class Both:
    """The client that waits, or the one for asyncio, called alike."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind, self.url = kind, url

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method; a stream is returned as a list."""
        if self.kind == "sync":
            with client.Client(self.url, token="") as waiting:
                answer = getattr(waiting, name)(*args, **kwargs)
                return list(answer) if name.startswith("watch") else answer
        return asyncio.run(self._awaited(name, *args, **kwargs))

    async def _awaited(self, name: str, *args: Any, **kwargs: Any) -> Any:
        async with AsyncClient(self.url, token="") as awaiting:
            answer = getattr(awaiting, name)(*args, **kwargs)
            return [event async for event in answer] if name.startswith("watch") else await answer


STATE = '{"run_id": 7, "status": "running", "attempt": 1, "next_batch": 1, "step": 0, "cancel": false}'
EVENT = (
    '{"id": 1, "arm": "full", "seed": 0, "status": "running", "phase": null, "step": 3, "total_steps": 9, '
    '"eta_seconds": 1.5, "train_loss": 0.4, "validation_score": null, "metric": "accuracy", "score": null, '
    '"failure_code": null}'
)
STUDY = (
    '{"id": 7, "name": "x", "status": "queued", "runs": [], "trials": [], "done": 0, "stopped": [], "warning": "", '
    '"new": 1}'
)


def quickly(pause_after: Callable[..., float]) -> Callable[..., float]:
    """Decide as before, and do not wait."""

    def at_once(*args: Any) -> float:
        pause_after(*args)
        return 0.0

    return at_once


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_script_submits_once_although_the_answer_is_lost(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(connection.Patience, "pause_after", quickly(connection.Patience.pause_after))
    keys.clear()
    answers: list[Answer] = [
        (0, "", ""),
        (409, "application/problem+json", '{"detail": "in progress", "errors": []}'),
        (202, "application/json", STUDY),
    ]
    with serving(lambda n: answers[n]) as url:
        study = Both(kind, url).call("submit_study", {"arms": []})
    assert (study.id, study.model_extra) == (7, {"new": 1})
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_script_watches_beyond_a_break_and_saves_whole_files_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    monkeypatch.setattr(connection.Patience, "pause_after", quickly(connection.Patience.pause_after))
    progress = f"event: progress\ndata: {EVENT}\n\n"
    answers: list[Answer] = [
        (200, "text/event-stream", progress),
        (503, "application/problem+json", '{"detail": "away", "errors": []}'),
        (200, "text/event-stream", progress + END),
        (200, "text/html", "<html>"),
        (404, "application/problem+json", '{"detail": "There is no study 2.", "errors": []}'),
    ]
    with serving(lambda n: answers[n]) as url:
        both = Both(kind, url)
        assert [event.step for event in both.call("watch_run", 1)] == [3, 3]
        assert both.call("save_report", tmp_path / "report.html", 1).read_text() == "<html>"
        with pytest.raises(Refused, match="no study 2"):
            both.call("save_report", str(tmp_path / "other.html"), 2)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.by_day
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((200, "text/html", "<html>"), NotVezna),
        ((404, "text/html", "<html>"), NotVezna),
        ((200, "application/json", '{"id": 1}'), UnknownAnswer),
        ((0, "", ""), Unreachable),
        ((503, "text/html", "<html>"), Unreachable),
        ((502, "text/plain", ""), Unreachable),
    ],
)
def test_a_script_is_told_what_answers_instead(kind: str, answer: Answer, error: type[ClientError]) -> None:
    with serving(lambda _: answer) as url, pytest.raises(error) as raised:
        Both(kind, url).call("open_run", 1, {"key": "a"})  # without a key of its own it is sent once
    assert url in str(raised.value) or error is UnknownAnswer
    with serving(lambda _: (200, "application/json", STATE)) as url:
        assert Both(kind, url).call("open_run", 1, {"key": "a"}).run_id == 7


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_question_is_asked_again_while_a_proxy_has_no_server(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(connection.Patience, "pause_after", quickly(connection.Patience.pause_after))
    answers: list[Answer] = [
        (502, "text/html", "<html>"),
        (504, "text/plain", ""),
        (404, "application/problem+json", '{"detail": "There is no run 1.", "errors": []}'),
    ]
    with serving(lambda n: answers[n]) as url, pytest.raises(Refused, match="no run 1"):
        Both(kind, url).call("run", 1)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_refusal_names_the_fields_and_a_server_that_is_away_is_not_waited_for(kind: str) -> None:
    problem = '{"detail": "No.", "errors": [{"path": "arms.0", "message": "No", "remedy": "Another"}]}'
    with serving(lambda _: (422, "application/problem+json", problem)) as url, pytest.raises(Refused) as raised:
        Both(kind, url).call("submit_study", {})
    [field] = raised.value.fields
    assert (raised.value.status, field.path, field.remedy) == (422, "arms.0", "Another")
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9 does not answer") as away:
        Both(kind, "http://team:secret@127.0.0.1:9").call("run", 1)
    assert "secret" not in str(away.value)
