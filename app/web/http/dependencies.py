"""Dependencies of endpoints: settings, the database, a session for reading, the doorbell, the files."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, cast

from fastapi import Depends, Query, Request
from pydantic import BeforeValidator, Field
from sqlalchemy.orm import Session

from app.broker.exchange import Reader
from app.broker.queue import Doorbell
from app.domain.accounts.ownership import Viewer, Visibility, viewer_of
from app.domain.accounts.policy import Identity
from app.services.ownership.vault import Vault
from app.services.users import audit
from app.settings import Settings
from app.store.database.page import LARGEST_ID
from app.store.database.session import Database
from app.store.files.files import Files
from app.web.http.feed import Feed

NO_ONE = Viewer(0)
"""An anonymous visitor, to whom nothing is private."""


def config(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def identity(request: Request) -> Identity:
    return cast(Identity, request.state.identity)


def database(request: Request) -> Database:
    """The database as the user of the request sees it; a write is `with db.transaction() as session`."""
    whole = cast(Database, request.app.state.database)
    user = request.state.identity
    viewer = viewer_of(user) if user is not None else NO_ONE
    return whole.seen_by(viewer, partial(audit.record_opened, whole) if viewer and viewer.sees_all else None)


def creating(
    db: Annotated[Database, Depends(database)],
    visibility: Annotated[
        Visibility, Query(description="Who sees what is created, beside its owner and the admins.")
    ] = Visibility.TEAM,
) -> Database:
    """The database, with the visibility of what the request creates."""
    return db.creating(visibility)


def reading(db: Annotated[Database, Depends(database)]) -> Iterator[Session]:
    """A session for reading, closed once the answer is complete."""
    with db.reading() as session:
        yield session


def doorbell(request: Request) -> Doorbell:
    return cast(Doorbell, request.app.state.doorbell)


def streams(request: Request) -> Feed:
    return cast(Feed, request.app.state.feed)


def vault(request: Request) -> Vault:
    """Encrypts and decrypts stored secrets. Raises Unavailable without a usable key."""
    return Vault(config(request))


def exchange(request: Request) -> Reader:
    """By which requests reach the inference worker."""
    return cast(Reader, request.app.state.exchange)


def files(request: Request) -> Files:
    return cast(Files, request.app.state.files)


Config = Annotated[Settings, Depends(config)]
User = Annotated[Identity, Depends(identity)]
Db = Annotated[Database, Depends(database)]
NewDb = Annotated[Database, Depends(creating)]
Reading = Annotated[Session, Depends(reading, scope="function")]
Bell = Annotated[Doorbell, Depends(doorbell)]
Secrets = Annotated[Vault, Depends(vault)]
Exchange = Annotated[Reader, Depends(exchange)]
Store = Annotated[Files, Depends(files)]
Streams = Annotated[Feed, Depends(streams)]
RowId = Annotated[int, Field(ge=0, le=LARGEST_ID)]
After = Annotated[RowId | None, BeforeValidator(lambda text: text or None), Query()]
"""The key after which a page of a list begins; an empty value means the first page."""
