"""Every route of an application, with an address for it in the filled database (tests/support/filled/filled.py)."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from app.web.pages.routers import ROUTERS
from app.web.site import sites

EXAMPLES = {
    "owner": "runs",
    "noun": "runs",
    "ending": "svg",
    "recipe_id": "seed-noise",
    "run_id": "2",
    "owner_id": "2",
    "row_id": "2",
}
"""Of parts of an address; anything else that is a number is 1: study 1 and run 2 have ended."""
NAMES = {"models": "all-MiniLM-L6-v2", "data": "bbc-headlines", "datasets": "bbc-headlines", "uploads": "reviews.csv"}
"""Of `{name}` below a section."""


class Call(NamedTuple):
    """A request to a route."""

    method: str
    path: str
    route: str
    page: bool
    """Whether it is a page, and not documented in OpenAPI."""


def calls(app: FastAPI) -> Iterator[Call]:
    """A request to every route and method of the application, but for static files: what only reads comes first."""
    yield from sorted(_all(app), key=lambda call: call.method not in ("GET", "HEAD"))


def _all(app: FastAPI) -> Iterator[Call]:
    yield Call("GET", "/api/v1/openapi.json", "/api/v1/openapi.json", page=False)
    documented = app.openapi()["paths"]
    for path, operations in documented.items():
        for method in operations:
            yield Call(method.upper(), _address(path), path, page=False)
    for router in (*(each for site in sites() for each in site.pages), *ROUTERS):
        for route in iter_route_contexts(router.routes):  # also those of a router within a router
            assert route.path is not None and route.methods, route
            if not route.include_in_schema or route.path not in documented:
                for method in route.methods:
                    yield Call(method, _address(route.path), route.path, page=True)


def _address(path: str) -> str:
    section = next((part for part in path.split("/") if part in NAMES), "")

    def example(match: re.Match[str]) -> str:
        name = match[1]
        return NAMES.get(section, "x") if name == "name" else EXAMPLES.get(name, "1")

    return re.sub(r"\{(\w+)(?::\w+)?\}", example, path)
