"""The kinds of pages of a server with many runs, without the peer."""

from urllib.parse import urlencode

import httpx2

from benchmarks.board.served import Served, clock, good
from benchmarks.speed.tables import spread

FILTER = 'accuracy > 0.9 and method = "lora" and not failed'


def looked_at(**words: str) -> str:
    """The address of the runs page."""
    return f"/runs?{urlencode(words)}"


PAGES = {
    "newest runs": "/runs",
    "by score": "/runs?sort=-score",
    "by whole time (no index of its own)": "/runs?sort=wall",
    "filtered": looked_at(filter=FILTER),
    "filtered and sorted": looked_at(filter=FILTER, sort="-speed"),
    "filtered by a text": looked_at(filter='arm ~ "r=8" or failed', sort="-loss"),
    "groups by their mean": "/runs?group=seed",
    "groups by their lower bound": "/runs?group=seed&sort=-lower",
    "groups, filtered": looked_at(group="seed", filter=FILTER),
    "against a baseline": "/runs?sort=-score&baseline=1",
    "filtered by notes": looked_at(filter="note ~ mended"),
    "a run with a long curve": "/runs/{run}",
    "workers": "/workers",
    "models": "/models",
    "100 runs (API)": "/api/v1/runs?limit=100",
    "100 runs by score (API)": "/api/v1/runs?limit=100&sort=-score",
}


def pages(vezna: Served, repeats: int, long_run: int) -> None:
    """Time every kind of page of a server, which is then ended: median and range in milliseconds."""
    try:
        client = httpx2.Client(timeout=120.0)
        for name, path in PAGES.items():
            url = vezna.url + path.format(run=long_run)
            good(client.get(url))
            found = [1000 * clock(lambda url=url: good(client.get(url))) for _ in range(repeats)]
            print(f"| {name} | {spread(found, '.1f')} |", flush=True)
    finally:
        vezna.stop()
