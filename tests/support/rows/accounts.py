"""An application that requires a login, and its users."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.requests import Request

from app.domain.accounts.policy import SCOPES, Role, Scope
from app.domain.accounts.users import NewUser
from app.main import create_app
from app.services.users import login, sessions, tokens, users
from app.services.users.sessions import Visitor
from app.services.users.tokens import NewToken
from app.settings import Settings
from app.store.database import owners as ownership
from app.store.database.session import Database
from app.store.users import queries as user_queries
from app.web.http import csrf
from app.web.http.csrf import SESSION_COOKIE as COOKIE
from tests.support.fakes.fakes import SilentBell

PASSWORD = "seven grey herons wait"
HERE = Visitor("198.51.100.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
OWN_PAGE = {"sec-fetch-site": "same-origin"}
"""What a browser sends with a request of a page of this server."""


@dataclass
class Installation:
    """An application that requires a login, with a user of each role. What is in its database is the member's."""

    settings: Settings
    app: FastAPI = field(init=False)

    def __post_init__(self) -> None:
        self.app = create_app(self.settings)
        self.app.state.doorbell = SilentBell()
        self.database: Database = self.app.state.database
        with self.database.transaction() as session:
            self.ids = {
                role: users.create(session, NewUser(email=f"{role.value}@example.org", role=role)).id for role in Role
            }
            ownership.transfer_all(session, self.ids[Role.ADMIN], self.ids[Role.MEMBER])

    def anonymous(self) -> TestClient:
        """A visitor without login."""
        return with_form_token(TestClient(self.app, base_url="http://127.0.0.1", follow_redirects=False))

    def browser(self, role: Role) -> TestClient:
        """A browser with a session, which sends requests from the server's own pages."""
        with self.database.transaction() as session:
            secret = sessions.begin(session, user_queries.get(session, self.ids[role]), HERE)
        client = self.anonymous()
        client.cookies.set(COOKIE, secret)
        client.headers.update(OWN_PAGE)
        return client

    def token(self, role: Role, *scopes: Scope) -> str:
        """A new API token; by default with every scope of the role."""
        new = NewToken(name="test", scopes=list(scopes or SCOPES[role]))
        with self.database.transaction() as session:
            return tokens.create(session, user_queries.get(session, self.ids[role]), new)[1]

    def program(self, role: Role, *scopes: Scope) -> TestClient:
        """A program with an API token."""
        client = self.anonymous()
        client.headers["authorization"] = f"Bearer {self.token(role, *scopes)}"
        return client


@contextmanager
def installed(home: Path, rows: Path, **settings: Any) -> Iterator[Installation]:
    """An installation in a directory, on a copy of a SQLite file."""
    shutil.copy(rows, home / "vezna.sqlite")
    found = Installation(Settings(home=home, login="required", **settings))
    try:
        yield found
    finally:
        found.database.dispose()


def verified(db: Database, email: str, password: str, visitor: Visitor) -> int:
    """The id of the user with an e-mail address and a password. Raises what `login.verify` raises."""
    return login.verify(db, email, password, visitor, lambda _session, user: user.id)


def with_form_token(client: TestClient) -> TestClient:
    """Have a client send the token of a form with each request, as a page of its session has it."""

    def sign(request: httpx2.Request) -> None:
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        scope = {"type": "http", "app": client.app, "headers": headers, "scheme": request.url.scheme}
        scope |= {"server": ("127.0.0.1", 80), "path": "/", "query_string": b""}
        request.headers[csrf.HEADER] = csrf.token(Request(scope))

    client.event_hooks = {"request": [sign]}
    return client


def set_cookies(answer: httpx2.Response) -> str:
    """The header Set-Cookie of an answer."""
    return str(answer.headers.get("set-cookie", ""))
