"""`Idempotency-Key`: a request that is sent again does nothing again, and gets the first answer.

The answer is stored in the transaction that creates what it names (`Once.keep`), so whatever ends the web process, a
client that repeats its request finds either both or neither. A request that was refused leaves its key unused. Statuses
are those of the IETF draft (draft-ietf-httpapi-idempotency-key-header-07): 409 while the first request is in progress,
422 for a key of another request.

The key of a form is a hidden field. A second click on its button waits for the first and leads to the same page; if the
form was changed between, it is another request.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar
from weakref import WeakValueDictionary

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import TypeAdapter
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.domain.errors import Conflict, InProgress, Invalid, Unavailable, VeznaError
from app.domain.messages import _
from app.services.ownership.vault import Vault
from app.store.database.session import Database
from app.store.requests import idempotency
from app.store.tables import IdempotencyKeyRow
from app.web.http.dependencies import Db, config
from app.web.http.errors import answer_to
from app.web.http.files.uploads import FormFiles

HEADER, FIELD = "Idempotency-Key", "idempotency_key"
REPLAYED = "Idempotency-Replayed"
"""Header of an answer that was given before."""
MOST_CHARACTERS = 255
QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
"""A string of RFC 8941, as the draft has it."""
BARE = re.compile(r"[!#-~]+")
"""Without quotes, as most clients send it."""
EXAMPLE = '"8e03978e-40d5-43dd-bc93-6894a57f9324"'
Answer = TypeVar("Answer")
KeyHeader = Annotated[
    str | None,
    Header(
        alias=HEADER,
        description="A value of the client's choice, new for each request. The same request with the same key is done "
        "once, and answered again, for 24 hours.",
    ),
]


@dataclass(frozen=True)
class Once:
    """The key of a request; without one, nothing is stored."""

    key: str = ""
    owner: str = ""
    """The user; empty without login."""
    fingerprint: str = ""
    status: int = 0
    """Status of the route's answer."""
    database: Database | None = None

    def keep(self, session: Session, answer: Answer, vault: Vault | None = None) -> Answer:
        """Store the answer, or the address that a form leads to, with what the transaction has created; with a vault
        encrypted, for an answer with a secret. Raises Conflict if another process has just answered a request with this
        key."""
        if self.key:
            body = "" if isinstance(answer, str) else TypeAdapter(type(answer)).dump_json(answer).decode()
            row = IdempotencyKeyRow(
                owner=self.owner,
                key=self.key,
                fingerprint=self.fingerprint,
                status=303 if isinstance(answer, str) else self.status,
                location=answer if isinstance(answer, str) else "",
                body=f"{idempotency.ENCRYPTED}{vault.encrypt(body)}" if vault else body,
            )
            if not idempotency.add(session, row):
                raise Conflict(_("The same request was accepted at the same time. Send it again for its answer."))
        return answer

    def raise_if_answered(self) -> None:
        """Raise Answered if the request was answered before, also by another process meanwhile. A route that shows a
        refusal itself calls this first: the same request may have done what this one is refused for. Raises Invalid if
        the key belongs to another request."""
        if self.database is None:
            return
        with self.database.reading() as session:
            row = idempotency.find(session, self.owner, self.key)
        if row is None:
            return
        if row.fingerprint != self.fingerprint:
            raise Invalid.field(
                HEADER,
                _("The key belongs to another request, with another address or body"),
                _("Send a new key with a new request"),
            )
        raise Answered(row)


class Answered(Exception):
    """The request was answered before."""

    def __init__(self, row: IdempotencyKeyRow) -> None:
        super().__init__(row.key)
        self.row = row


def install(app: FastAPI) -> None:
    """Remember the requests in progress, and answer repeated ones."""
    app.state.keys_in_progress = WeakValueDictionary[str, asyncio.Lock]()
    app.add_exception_handler(Answered, _again)


def _again(request: Request, error: Exception) -> Response:
    assert isinstance(error, Answered)  # noqa: S101
    row = error.row
    if row.location:
        return RedirectResponse(row.location, row.status)
    body, headers = row.body, {REPLAYED: "true"}
    if body.startswith(idempotency.ENCRYPTED):
        headers["Cache-Control"] = "no-store"
        try:
            body = Vault(config(request)).decrypt(body.removeprefix(idempotency.ENCRYPTED))
        except Unavailable as unavailable:
            return answer_to(request, unavailable)
    return Response(body, row.status, headers, media_type="application/json")


async def of_json(request: Request, db: Db, header: KeyHeader = None) -> AsyncIterator[Once]:
    """The key of a request whose body is JSON, or empty."""
    async with held(request, db, _parsed(header), await request.body() if header else b"") as once:
        yield once


async def of_uploaded(request: Request, db: Db, received: FormFiles, header: KeyHeader = None) -> AsyncIterator[Once]:
    """The key of an upload, held once its files are here: after a broken connection they can be sent again at once."""
    async with held(request, db, _parsed(header), contents(received.fields, received.digests)) as once:
        yield once


OnceByHeader = Annotated[Once, Depends(of_json, scope="function")]
OnceByUpload = Annotated[Once, Depends(of_uploaded, scope="function")]


@asynccontextmanager
async def held(request: Request, db: Database, key: str, content: bytes, *, form: bool = False) -> AsyncIterator[Once]:
    """Hold a key while its request is answered. Raises Answered, InProgress, and Invalid."""
    if not key:
        yield Once()
        return
    address = f"{request.method} {request.url.path}?{request.url.query}\n"
    fingerprint = hashlib.sha256(address.encode() + content).hexdigest()
    if form:
        key = hashlib.sha256(f"{key} {fingerprint}".encode()).hexdigest()
    keys: WeakValueDictionary[str, asyncio.Lock] = request.app.state.keys_in_progress
    owner = request.state.identity.owner
    lock = keys.setdefault(f"{owner} {key}", asyncio.Lock())
    if lock.locked() and not form:
        raise InProgress(_("The first request with this Idempotency-Key is still in progress. Send it again later."))
    once = Once(key, owner, fingerprint, request.scope["route"].status_code or 200, db)
    async with lock:
        await run_in_threadpool(once.raise_if_answered)
        try:
            yield once
        except VeznaError:
            await run_in_threadpool(once.raise_if_answered)
            raise


def _parsed(header: str | None) -> str:
    if header is None:
        return ""
    quoted = QUOTED.fullmatch(header)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else header
    if not 0 < len(key) <= MOST_CHARACTERS or not (quoted or BARE.fullmatch(header)):
        raise Invalid.field(
            HEADER,
            _("The key is not a text of 1 to %(most)s printable ASCII characters", most=MOST_CHARACTERS),
            _("Send a UUID, for example %(example)s", example=EXAMPLE),
        )
    return key


def contents(fields: Mapping[str, str], digests: Sequence[tuple[str, str]] = ()) -> bytes:
    """What makes two forms the same: their fields, without the key, and their files."""
    return json.dumps(
        [{name: value for name, value in fields.items() if name != FIELD}, digests], sort_keys=True
    ).encode()
