"""Requests for inference and their events, by a real broker."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from app.broker import exchange
from app.broker.exchange import Answerer, Reader
from app.domain.errors import TooMany, Unavailable
from app.features.serving.rules import InferenceRequest, Subject
from app.settings import Settings
from worker.features.serving import node


@pytest.fixture
def settings(tmp_path: Path, broker: str) -> Settings:
    """Keys of its own."""
    return Settings(home=tmp_path, broker_url=SecretStr(broker), broker_prefix=f"{tmp_path.name}:")


@pytest.fixture
def worker(settings: Settings) -> Iterator[Answerer]:
    """The worker's side."""
    side = Answerer(settings)
    side.alive()
    yield side
    side.leave()


async def events(settings: Settings, request_id: str = "one", most: int = 100) -> list[dict[str, Any]]:
    """The first events of a request but `waiting`."""
    reader, found = Reader(settings), []
    asked = reader.ask(request_id, "body")
    try:
        async for event in asked:
            if event["type"] != "waiting":
                found.append(event)
            if len(found) == most:
                break
    finally:
        await asked.aclose()
        await reader.close()
    return found


def in_thread(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_events_arrive_in_order_until_the_last_one(settings: Settings, worker: Answerer) -> None:
    def answer() -> None:
        taken = None
        while taken is None:
            taken = worker.take()
        assert taken == ("one", "body")
        for n in range(300):
            worker.send("one", {"type": "token", "text": f"{n} é"})
        worker.send("one", {"type": "end"})

    thread = in_thread(answer)
    found = asyncio.run(events(settings, most=1000))
    thread.join()
    assert [event.get("text") for event in found] == [*(f"{n} é" for n in range(300)), None]
    assert worker._redis.keys(f"{settings.broker_prefix}*") == [f"{settings.broker_prefix}infer:alive"]


def test_a_reader_who_leaves_withdraws_the_request(settings: Settings, worker: Answerer) -> None:
    seen: list[bool] = []

    def answer() -> None:
        while worker.take() is None:
            pass
        seen.append(worker.wanted("one"))
        worker.send("one", {"type": "token"})
        while worker.wanted("one"):
            pass
        seen.append(False)

    thread = in_thread(answer)
    asyncio.run(events(settings, most=1))
    thread.join(10)
    assert seen == [True, False]


def test_a_request_whose_reader_has_left_is_not_answered(settings: Settings, worker: Answerer) -> None:
    worker._redis.lpush(f"{settings.broker_prefix}infer", "gone")
    assert worker.take() is None


def test_without_a_worker_the_reader_is_told_at_once(settings: Settings) -> None:
    with pytest.raises(Unavailable, match="No worker answers requests for inference"):
        asyncio.run(events(settings))


def test_a_broker_that_is_away_is_named() -> None:
    away = Settings(broker_url=SecretStr("redis://127.0.0.1:1/0"))
    with pytest.raises(Unavailable, match="The broker does not answer"):
        asyncio.run(events(away))


def test_one_request_too_many_is_refused(settings: Settings, worker: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MOST_WAITING", 1)
    worker._redis.lpush(f"{settings.broker_prefix}infer", "other")
    with pytest.raises(TooMany):
        asyncio.run(events(settings))


def test_a_reader_whose_request_has_expired_does_not_wait_for_ever(
    settings: Settings, worker: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when this process slept for longer than the lease: the worker has dropped the request."""
    monkeypatch.setattr(exchange, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(exchange, "BLOCK_MILLISECONDS", 10)

    async def expire() -> None:
        reader = Reader(settings)
        asked = reader.ask("one", "body")
        async for _event in asked:
            worker._redis.delete(f"{settings.broker_prefix}infer:one")

    with pytest.raises(Unavailable, match="has expired: the server did not renew it for 15 s"):
        asyncio.run(expire())


def test_a_worker_that_falls_silent_after_an_event_is_named_and_each_event_restarts_the_time(
    settings: Settings, worker: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it was restarted: the new one says that it lives, but knows nothing of the request."""
    monkeypatch.setattr(exchange, "BLOCK_MILLISECONDS", 10)
    monkeypatch.setattr(exchange, "SILENT_SECONDS", 5.0)
    seconds = iter(range(100))
    monkeypatch.setattr(exchange, "time", SimpleNamespace(monotonic=lambda: 1.0 * next(seconds)))
    seen: list[str] = []

    async def wait() -> None:
        reader = Reader(settings)
        async for event in reader.ask("one", "body"):
            seen.append(event["type"])
            if event["type"] == "waiting" and len(seen) < 6:
                worker.send("one", {"type": "working"})

    with pytest.raises(Unavailable, match="sent nothing for 5 s"):
        asyncio.run(wait())
    assert seen.count("working") >= 3, "without a restart of the time it would end before"


def test_events_and_requests_expire(settings: Settings, worker: Answerer) -> None:
    async def leave_abruptly() -> None:
        reader = Reader(settings)
        await reader._send(reader._connected(), "one", "body")
        await reader.close()

    asyncio.run(leave_abruptly())
    worker.send("one", {"type": "token"})
    prefix = f"{settings.broker_prefix}infer"
    assert 0 < worker._redis.ttl(f"{prefix}:one") <= exchange.LEASE_SECONDS
    assert 0 < worker._redis.ttl(f"{prefix}:one:events") <= exchange.KEPT_SECONDS


class Failing:
    """An inference process that raises something unexpected."""

    def answer(self, _request: object, _wanted: object) -> Iterator[dict[str, Any]]:
        raise RuntimeError("unexpected")


@pytest.mark.parametrize(("body", "why"), [("{}", "different versions"), ("", "failed")])
def test_whatever_happens_the_reader_is_told(settings: Settings, worker: Answerer, body: str, why: str) -> None:
    body = (
        body or InferenceRequest(id="one", kind="predict", subjects=[Subject(run_id=1)], inputs=["a"]).model_dump_json()
    )
    node.answer(Failing(), worker, "one", body)  # type: ignore[arg-type]
    [(_id, fields)] = worker._redis.xrange(f"{settings.broker_prefix}infer:one:events")
    assert why in fields["event"]
