"""What a client may ask for, whose word about a client's address counts, and where the probes are."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError
from starlette.responses import Response
from structlog.testing import capture_logs

from app.cli import serve
from app.domain.errors import TooMany
from app.main import MOST_BODY_BYTES, create_app
from app.settings import ROOT, Settings
from app.web.forms.sent import MOST_FIELDS
from app.web.http.feed import Feed
from app.web.http.middleware import limits
from app.web.http.middleware.forwarded import UntrustedProxyWarning
from app.web.http.middleware.limits import Buckets, client_of
from tests.support.fakes.fakes import SilentBell
from tests.support.servers.forms import form_headers
from tests.support.servers.running_stack import free_port
from tests.support.servers.served import served

ELSEWHERE = ("203.0.113.5", 4000)
NAME = "vezna.example"


def application(folder: Path, rows: Path, **settings: Any) -> FastAPI:
    """An application that has one of everything."""
    shutil.copy(rows, folder / "vezna.sqlite")
    app = create_app(Settings(home=folder, allowed_hosts=["testserver", NAME], **settings))
    app.state.doorbell = SilentBell()
    return app


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the limits stands still, so that no request comes back, however slow the machine is."""
    monkeypatch.setattr(limits, "Buckets", partial(Buckets, clock=lambda: 0.0))


@pytest.fixture
def limited(tmp_path: Path, filled_file: Path, stopped_clock: None) -> Iterator[FastAPI]:
    """An application that answers three requests a minute."""
    app = application(tmp_path, filled_file, requests_per_minute=3)
    yield app
    app.state.database.dispose()


def test_a_bucket_fills_evenly_and_the_wait_is_until_the_next_request() -> None:
    at = [0.0]
    buckets = Buckets(60, clock=lambda: at[0])
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60
    assert buckets.take("a") == pytest.approx(1.0)
    assert buckets.take("b") == 0.0
    at[0] = 0.5
    assert buckets.take("a") == pytest.approx(0.5)
    at[0] = 1.0
    assert buckets.take("a") == 0.0 and buckets.take("a") > 0
    at[0] = 1000.0
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60 and buckets.take("a") > 0


def test_buckets_of_many_clients_take_bounded_memory() -> None:
    buckets = Buckets(1, most=3)
    for client in "abcd":
        assert buckets.take(client) == 0.0
    assert buckets.take("d") > 0 and buckets.take("c") > 0
    assert buckets.take("a") == 0.0  # it was forgotten


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("127.0.0.1", ""),
        ("127.3.2.1", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("", ""),
        ("unknown", "unknown"),
        ("x" * 5000, "x" * 64),
        ("203.0.113.5:4711", "203.0.113.5"),
        ("[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::/64"),
        ("127.0.0.1:4711", ""),
        ("203.0.113.5", "203.0.113.5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
    ],
)
def test_a_client_is_its_address_or_its_network(address: str, client: str) -> None:
    assert client_of({"client": (address, 1)}) == client


def test_a_unix_socket_has_no_client() -> None:
    assert client_of({"client": None}) == client_of({}) == ""


def test_one_request_too_many_says_when_to_try_again(limited: FastAPI) -> None:
    client = TestClient(limited, client=ELSEWHERE)
    assert [client.get("/api/v1/runs?limit=1").status_code for _ in range(3)] == [200] * 3
    refused = client.get("/api/v1/runs")
    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert refused.json()["type"] == "urn:vezna:toomany" and "Try again in" in refused.json()["detail"]
    page = client.get("/studies")
    assert (page.status_code, page.headers["content-type"]) == (429, "text/html; charset=utf-8")
    assert client.get("/static/favicon.svg").status_code == client.get("/livez").status_code == 200
    assert client.get("/livezz").status_code == 429
    assert TestClient(limited, client=("203.0.113.6", 1)).get("/api/v1/runs").status_code == 200


def test_a_client_without_an_address_is_limited_by_what_the_proxy_calls_it(limited: FastAPI) -> None:
    client = TestClient(limited, client=("unknown", 0))
    assert [client.get("/api/v1/runs?limit=1").status_code for _ in range(4)] == [200] * 3 + [429]


def test_this_machine_has_no_limit(limited: FastAPI) -> None:
    client = TestClient(limited, client=("127.0.0.1", 4000))
    assert {client.get("/livez").status_code for _ in range(3)} | {
        client.get("/api/v1/runs?limit=1").status_code for _ in range(10)
    } == {200}


def test_a_token_counts_wherever_it_is_used(limited: FastAPI) -> None:
    def status(place: int, token: str) -> int:
        client = TestClient(limited, client=(f"203.0.113.{place}", 1))
        return client.get("/api/v1/runs?limit=1", headers={"Authorization": token}).status_code

    assert [status(place, "Bearer one") for place in range(1, 5)] == [200, 200, 200, 429]
    assert status(9, "Bearer two") == 200
    assert [status(place, "Basic one") for place in range(10, 16)] == [200] * 6  # a proxy's password, which many share


def test_no_limit_where_none_is_wanted(tmp_path: Path, filled_file: Path) -> None:
    client = TestClient(application(tmp_path, filled_file, requests_per_minute=0), client=ELSEWHERE)
    assert {client.get("/api/v1/workers").status_code for _ in range(20)} == {200}


def test_a_client_may_have_so_many_event_streams(limited: FastAPI) -> None:
    limited.state.feed = Feed(lambda: limited.state.database, most_per_client=0)
    refused = TestClient(limited, client=ELSEWHERE).get("/api/v1/runs/2/events")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert "event streams open" in refused.json()["detail"]
    here = TestClient(limited, client=("127.0.0.1", 4000))
    assert here.get("/api/v1/runs/2/events").status_code == 200


def test_a_stream_that_ends_leaves_its_place() -> None:
    async def take() -> None:
        feed = Feed(lambda: None, most_per_client=1)  # type: ignore[arg-type, return-value]
        first = feed.place("a")
        await anext(first)
        with pytest.raises(TooMany, match="1 event streams open"):
            await anext(feed.place("a"))
        await anext(feed.place("b"))
        await anext(first, None)
        await anext(feed.place("a", "user 1"))
        with pytest.raises(TooMany, match="1 event streams open"):
            await anext(feed.place("c", "user 1"))  # a user from another client

    asyncio.run(take())


def test_a_body_that_does_not_say_its_size_is_refused_while_it_arrives(limited: FastAPI) -> None:
    taken = 0

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        async def counted() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            return message

        await limited(scope, counted, send)

    with served(counting) as url:  # type: ignore[arg-type]
        answer = httpx2.post(f"{url}/api/v1/runs", content=(b" " * (1 << 16) for _ in range(64)), timeout=60)
    assert answer.status_code == 413
    assert MOST_BODY_BYTES / 2 < taken < 2 * MOST_BODY_BYTES  # of 4 MiB


def test_a_form_has_so_many_fields(limited: FastAPI) -> None:
    client = TestClient(limited, headers=form_headers(limited))
    answer = client.post("/studies/new", data={f"f{i}": "x" for i in range(MOST_FIELDS + 1)})
    assert answer.status_code == 400 and "Too many fields" in answer.text


@pytest.mark.parametrize(
    ("trusted", "forwarded", "secure"),
    [
        ([], "198.51.100.7", False),
        (["10.0.0.0/8"], "198.51.100.7", False),
        (["127.0.0.1"], "198.51.100.7", True),
        (["127.0.0.0/8"], "6.6.6.6, 198.51.100.7", True),  # what a client says itself does not count
    ],
)
def test_only_a_trusted_proxy_says_who_calls_and_how(
    tmp_path: Path, filled_file: Path, stopped_clock: None, trusted: list[str], forwarded: str, secure: bool
) -> None:
    app = application(tmp_path, filled_file, requests_per_minute=2, forwarded_allow_ips=trusted)
    options = serve.server_options(app.state.settings)
    seen: list[str] = []

    @app.get("/seen")
    def see() -> None:
        """Nothing."""

    class Seeing:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                seen.append(scope["client"][0])
            await self.inner(scope, receive, send)

    proxied = {"Host": NAME, "X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https"}
    used = {name: options[name] for name in ("proxy_headers", "forwarded_allow_ips", "server_header")}
    with served(Seeing(app), **used) as url:  # type: ignore[arg-type]
        answers = [httpx2.get(f"{url}/seen", headers=proxied) for _ in range(3)]
    assert ("strict-transport-security" in answers[0].headers) is secure
    assert set(seen) == {"198.51.100.7" if secure else "127.0.0.1"}
    assert [answer.status_code for answer in answers] == [200, 200, 429 if secure else 200]
    assert "server" not in answers[0].headers


@pytest.mark.parametrize(
    ("trusted", "client", "headers", "warnings"),
    [
        ([], "10.0.0.5", {"x-forwarded-for": "198.51.100.7"}, 1),
        (["10.0.0.6"], "10.0.0.5", {"x-forwarded-proto": "https"}, 1),
        (["10.0.0.0/24"], "10.0.0.5", {"x-forwarded-proto": "https"}, 0),
        (["10.0.0.5"], "198.51.100.7", {"x-forwarded-for": "198.51.100.7, 10.0.0.5"}, 0),
        ([], "10.0.0.5", {}, 0),
    ],
)
def test_a_proxy_that_is_not_trusted_is_logged_once(
    trusted: list[str], client: str, headers: dict[str, str], warnings: int
) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await Response()(scope, receive, send)

    proxied = TestClient(UntrustedProxyWarning(answer, trusted), headers=headers, client=(client, 1))
    with capture_logs() as logged:
        assert [proxied.get("/").status_code for _ in range(2)] == [200, 200]
    assert [entry["address"] for entry in logged] == [client] * warnings
    assert all("VEZNA_FORWARDED_ALLOW_IPS" in entry["event"] for entry in logged)


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.1/33", "10.0.0.0/8 nonsense"])
def test_a_proxy_is_given_by_its_address(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEZNA_FORWARDED_ALLOW_IPS", value)
    with pytest.raises(ValidationError, match="is not an address or a network"):
        Settings()


@pytest.mark.parametrize("value", ["*", "10.0.0.5, *", "0.0.0.0/0", "::/0"])
def test_not_every_client_can_be_a_proxy(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEZNA_FORWARDED_ALLOW_IPS", value)
    with pytest.raises(ValidationError, match="claim any address: write the proxy's address"):
        Settings()


@pytest.mark.parametrize(
    "value", ["9100", "127.0.0.1", "127.0.0.1:0", ":9100", "a@b:1", "http://a:1", "127.0.0.1:99999"]
)
def test_the_address_of_metrics_has_a_host_and_a_port(value: str) -> None:
    with pytest.raises(ValidationError, match="HOST:PORT"):
        Settings(metrics_address=value)
    assert Settings(metrics_address="[::1]:9100").metrics == ("::1", 9100)


def test_the_port_of_metrics_is_another_one() -> None:
    with pytest.raises(ValidationError, match="another port"):
        Settings(metrics_address="127.0.0.1:8000")


@pytest.mark.nightly
def test_probes_have_a_port_of_their_own(tmp_path: Path, filled_file: Path) -> None:
    shutil.copy(filled_file, tmp_path / "vezna.sqlite")
    pages, probes = free_port(), free_port()
    told = {"VEZNA_HOME": str(tmp_path), "VEZNA_PORT": str(pages), "VEZNA_METRICS_ADDRESS": f"127.0.0.1:{probes}"}
    command = [sys.executable, "-m", "app.cli", "web"]
    server = subprocess.Popen(command, cwd=ROOT, env=os.environ | told, stderr=subprocess.PIPE)
    try:
        _wait(f"http://127.0.0.1:{pages}/livez", server)
        at = {
            (port, path): httpx2.get(f"http://127.0.0.1:{port}{path}").status_code
            for port in (pages, probes)
            for path in ("/livez", "/metrics", "/studies", "/api/v1/runs", "/static/favicon.svg", "/readyz")
        }
        assert {path: at[pages, path] for path in ("/livez", "/metrics", "/readyz")} == {
            "/livez": 200, "/metrics": 404, "/readyz": 404,
        }  # fmt: skip
        assert at[pages, "/studies"] == at[pages, "/api/v1/runs"] == at[pages, "/static/favicon.svg"] == 200
        assert at[probes, "/livez"] == at[probes, "/metrics"] == 200
        assert at[probes, "/readyz"] == 503  # there is no broker
        assert at[probes, "/studies"] == at[probes, "/api/v1/runs"] == at[probes, "/static/favicon.svg"] == 404
        named = {"Host": "10.1.2.3:9100"}  # of a pod, by which a collector calls it
        assert httpx2.get(f"http://127.0.0.1:{probes}/metrics", headers=named).status_code == 200
        assert httpx2.get(f"http://127.0.0.1:{pages}/livez", headers=named).status_code == 400
        rebound = {"Host": "rebound.example"}
        assert httpx2.get(f"http://127.0.0.1:{probes}/metrics", headers=rebound).status_code == 400
        second = subprocess.run(
            command, cwd=ROOT, env=os.environ | told | {"VEZNA_PORT": str(free_port())}, capture_output=True, text=True
        )
        assert second.returncode == 1 and f"VEZNA_METRICS_ADDRESS=127.0.0.1:{probes}" in second.stderr
    finally:
        server.terminate()
        server.wait(10)


def _wait(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            if httpx2.get(url).is_success:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")
