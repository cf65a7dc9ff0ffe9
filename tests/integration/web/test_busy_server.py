"""A server with many clients at once: no request waits for what another waiting request holds, and the process always
answers its probe. On SQLite and on PostgreSQL."""

import asyncio
from collections.abc import Iterator

import httpx2
import pytest

from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from tests.support.filled.filled import fill
from tests.support.servers.served import served

READERS = 80
PAGES = ("/workers", "/models", "/data", "/runs?sort=-score", "/studies", "/studies?archived=true", "/api/v1/runs")


@pytest.fixture
def address(database: Database, settings: Settings) -> Iterator[str]:
    """The address of a server on a database with one of everything."""
    with database.transaction() as session:
        fill(session)
    with served(create_app(settings)) as url:
        yield url


async def _read_all(address: str) -> tuple[list[httpx2.Response], httpx2.Response]:
    limits = httpx2.Limits(max_connections=READERS + 1)
    async with httpx2.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
        reading = [asyncio.create_task(client.get(PAGES[i % len(PAGES)])) for i in range(READERS)]
        await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
        probe = await client.get("/livez")
        unfinished = sum(not task.done() for task in reading)
        assert unfinished, "the probe was answered after all pages"
        return await asyncio.gather(*reading), probe


@pytest.mark.slow
def test_more_readers_than_threads_and_connections_all_get_their_page(address: str) -> None:
    pages, probe = asyncio.run(_read_all(address))
    assert probe.status_code == 200
    assert {page.status_code for page in pages} == {200}
