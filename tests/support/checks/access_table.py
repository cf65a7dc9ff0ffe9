"""Whether each route lets each kind of client through: `tests/data/access.csv` holds what is expected.

python -m tests.support.checks.access_table      writes the file anew; read the difference before you commit it

pass      the request reaches the route
login     401, or the login page
refuse    403
absent    404, as if the object did not exist: what another member gets for what is private to a member

A column is the answer of the gate before the routes, which `tests/integration/users/test_access.py` compares with the
file. Of another member, `tests/integration/users/test_owners.py` compares the column with a server in which everything
is private."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.domain.accounts.policy import Role
from app.domain.accounts.policy import Scope as TokenScope
from app.settings import ROOT, Settings
from app.store.database import migrate
from app.store.database.session import Database
from app.web.http.access import Access
from tests.support.rows.accounts import Installation

FILE = ROOT / "tests/data" / "access.csv"
RESULTS = {204: "pass", 303: "login", 401: "login", 403: "refuse"}


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of every route, but for mounts; that of the description too."""
    return [
        (method, route.path)
        for route in iter_route_contexts(app.routes)
        if route.path is not None
        for method in sorted((route.methods or {"GET"}) - {"HEAD", "OPTIONS"})
    ]


OTHER = "other member"
NOT_OBJECTS = (
    "/lab",
    "/webhooks",
    "/api/v1/webhooks",
    "/registry",
    "/api/v1/registry",
    "/users/",
    "/api/v1/quotas/",
    "/account/",
    "/password/",
    "/first-admin/",
    "/static",
    "/livez",
    "/readyz",
    "/compare/",
)
"""Beginnings of routes about no object with an owner. The registry is the team's: it takes no exports of private
runs."""
FILES = ("PUT", "/api/v1/uploads/files/{name:path}")
RECIPES = ("/recipes/{recipe_id}", "/api/v1/recipes/{recipe_id}")
"""Recipes are packaged; what ran is a study."""


def about_object(method: str, path: str) -> bool:
    """Whether a route is about a study, run, dataset, model, …, which may be private."""
    recipe = path.startswith(RECIPES) and "card" not in path and "chart" not in path
    return "{" in path and not path.startswith(NOT_OBJECTS) and (method, path) != FILES and not recipe


def expected() -> list[dict[str, str]]:
    """The lines of the file."""
    with FILE.open(newline="") as lines:
        return list(csv.DictReader(lines))


def filled_in(path: str, value: str = "1") -> str:
    """A path with a value for its parameters."""
    return re.sub(r"\{(\w+)(:\w+)?\}", value, path)


async def _reached(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(status_code=204)(scope, receive, send)


def clients(installation: Installation) -> Iterator[tuple[str, TestClient]]:
    """A client of each kind, of a server on which every admitted request is answered 204."""
    installed = {
        "anonymous": installation.anonymous(),
        **{role.value: installation.browser(role) for role in Role},
        **{f"token {scope.value}": installation.program(Role.ADMIN, scope) for scope in TokenScope},
        "viewer's token": installation.program(Role.VIEWER),
    }
    gate = Access(_reached, lambda: installation.database, required=True)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        await gate(scope | {"app": installation.app}, receive, send)  # pages of errors ask it for the key of forms

    for name, known in installed.items():
        client = TestClient(guarded, base_url="http://127.0.0.1", headers=known.headers, follow_redirects=False)
        client.cookies = known.cookies
        yield name, client


def table(installation: Installation) -> str:
    """The results as CSV: a line for each route, a column for each kind of client."""
    columns = dict(clients(installation))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(columns)
    names.insert(names.index(Role.MEMBER.value) + 1, OTHER)
    writer.writerow(["method", "path", *names])
    for method, path in sorted(set(routes(installation.app)), key=lambda route: (route[1], route[0])):
        address = filled_in(path)
        answers = {name: RESULTS[client.request(method, address).status_code] for name, client in columns.items()}
        answers[OTHER] = "absent" if about_object(method, path) else answers[Role.MEMBER.value]
        writer.writerow([method, path, *(answers[name] for name in names)])
    return text.getvalue()


def main() -> None:
    """Write the file."""
    with TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), login="required")
        database = Database(settings.database)
        migrate.upgrade(database)
        database.dispose()
        installation = Installation(settings)
        FILE.write_text(table(installation))
        installation.database.dispose()


if __name__ == "__main__":
    main()
