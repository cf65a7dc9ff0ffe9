"""An application to talk to."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.store.database.session import Database
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.external import SPEC
from tests.support.servers.forms import form_headers
from tests.support.servers.served import served
from tests.support.servers.supervised import claim, here, meanwhile
from vezna import Client

__all__ = ["api", "claim", "here", "meanwhile"]


@pytest.fixture
def api(registered: Database, settings: Settings, bell: SilentBell) -> Iterator[TestClient]:
    """A client of an application on a registered database, with a doorbell that nobody hears."""
    app = create_app(settings)
    app.state.doorbell = bell
    with TestClient(app, headers=form_headers(app), base_url="http://127.0.0.1/api/v1") as client:
        yield client


@pytest.fixture
def study_server(database: Database, settings: Settings) -> Iterator[str]:
    """The address of a server with a declared study, `tests.support.rows.external.SPEC`."""
    with served(create_app(settings)) as address:
        with Client(address) as client:
            client.declare_study(SPEC)
        yield address
