"""What authenticating a request costs: the same requests to a server without login, with a session and with a token.

    python -m benchmarks.session_check [--database sqlite|postgresql] [--requests 300]

The applications share a database with one of everything. Requests are sent one at a time, in-process and by turns, so
that a busy machine slows all three alike. What authentication adds is the median, with quartiles, of the
differences of a turn: of wall time, and of this process's processor time, which waiting for other programs does not
change (PostgreSQL is another process). Target: below 2 ms a request.
"""

import argparse
import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import numpy as np
import psutil
from pydantic import SecretStr

from app.domain.accounts.policy import Role
from app.main import create_app
from app.settings import Settings
from app.store.database import migrate
from app.store.database.session import Database
from app.web.http.csrf import SESSION_COOKIE as COOKIE
from benchmarks.load import database_url
from tests.support.filled.filled import fill
from tests.support.rows.accounts import Installation

PATHS = ("/api/v1/me", "/api/v1/workers", "/workers", "/studies/1")
"""A route that reads nothing, one that reads little, a page, and a page that is kept."""
WARM_UP = 20
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def main() -> None:
    """Print the median of each request, and what authentication adds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--requests", type=int, default=300)
    options = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="vezna-session-")))
        url = database_url(stack, options.database, home)
        database = Database(url)
        migrate.upgrade(database)
        with database.transaction() as session:
            fill(session)
        closed = Installation(Settings(home=home, database_url=SecretStr(url), login="required"))
        opened = create_app(Settings(home=home, database_url=SecretStr(url), login="single-user"))
        cookie = closed.browser(Role.ADMIN).cookies[COOKIE]
        clients = {
            "without": (opened, {}),
            "session": (closed.app, {"cookie": f"{COOKIE}={cookie}"}),
            "token": (closed.app, {"authorization": f"Bearer {closed.token(Role.ADMIN)}"}),
        }
        print(f"{options.database}, {psutil.cpu_count()} cores, load average before {psutil.getloadavg()[0]:.1f}")
        adding = "".join(f"{f'{name} adds, {clock}':24}" for clock in CLOCKS for name in ("session", "token"))
        print(f"{'median ms, wall':18}{'without':>9}{'session':>9}{'token':>9}  {adding}")
        for path in PATHS:
            times = asyncio.run(_measured(path, clients, options.requests))
            medians = "".join(f"{np.median(times[name][:, 0]) * 1000:9.2f}" for name in clients)
            added = {name: times[name] - times["without"] for name in ("session", "token")}
            adds = "".join(f"{_spread(added[name][:, clock]):24}" for clock in range(len(CLOCKS)) for name in added)
            print(f"{path:18}{medians}  {adds}", flush=True)


def _spread(seconds: np.ndarray) -> str:
    """Median and quartiles, in ms."""
    low, median, high = np.percentile(seconds * 1000, (25, 50, 75))
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


async def _measured(
    path: str, clients: Mapping[str, tuple[object, dict[str, str]]], requests: int
) -> dict[str, np.ndarray]:
    """Seconds of each request by each of `CLOCKS`, [requests, 2], by client."""
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in clients}
    open_clients = {
        name: httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app),
            base_url="http://127.0.0.1",
            headers=headers,  # type: ignore[arg-type]
        )
        for name, (app, headers) in clients.items()
    }
    for number in range(requests + WARM_UP):
        for name, client in open_clients.items():
            began = [read() for read in CLOCKS.values()]
            answer = await client.get(path)
            took = tuple(read() - start for read, start in zip(CLOCKS.values(), began, strict=True))
            assert answer.status_code == 200, (name, path, answer.status_code)
            if number >= WARM_UP:
                times[name].append(took)
    for client in open_clients.values():
        await client.aclose()
    return {name: np.array(taken) for name, taken in times.items()}


if __name__ == "__main__":
    main()
