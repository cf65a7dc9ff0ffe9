"""`vezna runs`, `vezna studies` and `vezna models delete`: archive, unarchive and delete, with a confirmation."""

import io
from collections.abc import Iterator
from typing import Any

import pytest

from app.cli import program as cli
from app.domain.runs.spec import RunSpec
from app.domain.studies.spec import StudySpec
from app.main import create_app
from app.services.runs import runs as run_service
from app.services.studies import studies as study_service
from app.settings import Settings
from app.store.database.session import Database
from app.store.models import queries as base_models
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from tests.support.fakes.fakes import SilentBell
from tests.support.servers.served import served

pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.parametrize("database", ["sqlite"], indirect=True)]

FULL = {"kind": "full"}
RUN = {"base_model": "tiny", "dataset": "small", "method": FULL}
STUDY = {"name": "S", "base_model": "tiny", "dataset": "small", "arms": [{"method": FULL}], "seeds": [0, 1]}


@pytest.fixture
def vezna(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], registered: Database, settings: Settings
) -> Iterator[Any]:
    """Runs `vezna` with an answer on standard input: its exit status and everything that it prints."""
    app = create_app(settings)
    app.state.doorbell = SilentBell()
    with served(app) as url:

        def run(*arguments: str, answer: str = "") -> tuple[int, str]:
            monkeypatch.setenv("COLUMNS", "200")
            monkeypatch.setattr("sys.stdin", io.StringIO(answer))
            monkeypatch.setattr("sys.argv", ["vezna", *arguments, "--url", url])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            printed = capsys.readouterr()
            return int(ended.value.code or 0), printed.out + printed.err

        yield run


@pytest.fixture
def cancelled(registered: Database) -> list[int]:
    """Three runs that were cancelled."""
    with registered.transaction() as session:
        ids = [run_service.submit(session, SilentBell(), RunSpec.model_validate(RUN)).id for _ in range(3)]
        for run_id in ids:
            run_service.cancel(session, SilentBell(), run_id)
    return ids


def test_runs_are_deleted_once_the_person_confirms(vezna: Any, registered: Database, cancelled: list[int]) -> None:
    first, second, third = cancelled

    status, printed = vezna("runs", "delete", str(first), str(second), answer="n\n")
    assert (status, "2 runs, 0 files" in printed) == (1, True)
    with registered.reading() as session:
        assert runs.find(session, first) is not None

    assert vezna("runs", "delete", str(first), answer="y\n")[0] == 0
    assert vezna("runs", "delete", str(second), "--yes")[0] == 0
    with registered.reading() as session:
        assert [run_id for run_id in cancelled if runs.find(session, run_id)] == [third]


def test_if_one_of_several_is_refused_nothing_is_deleted(
    vezna: Any, registered: Database, cancelled: list[int]
) -> None:
    with registered.transaction() as session:
        queued = run_service.submit(session, SilentBell(), RunSpec.model_validate(RUN)).id

    status, printed = vezna("runs", "delete", str(cancelled[0]), str(queued), "--yes")

    assert (status, "cancel it first" in printed) == (1, True)
    with registered.reading() as session:
        assert runs.find(session, cancelled[0]) is not None


def test_a_study_is_archived_brought_back_and_deleted(vezna: Any, registered: Database) -> None:
    with registered.transaction() as session:
        study_id = study_service.submit(session, SilentBell(), StudySpec.model_validate(STUDY)).id
    assert vezna("studies", "archive", str(study_id))[0] == 1
    with registered.transaction() as session:
        study_service.cancel(session, SilentBell(), study_id)

    for command, archived in (("archive", True), ("unarchive", False)):
        assert vezna("studies", command, str(study_id))[0] == 0
        with registered.reading() as session:
            assert studies.get(session, study_id).archived is archived
            assert {run.archived for run in runs.of_study(session, study_id)} == {archived}

    assert vezna("studies", "delete", str(study_id), "--yes")[0] == 0
    with registered.reading() as session:
        assert runs.of_study(session, study_id) == []


def test_runs_are_archived_and_brought_back(vezna: Any, registered: Database, cancelled: list[int]) -> None:
    for command, archived in (("archive", True), ("unarchive", False)):
        assert vezna("runs", command, *map(str, cancelled))[0] == 0
        with registered.reading() as session:
            assert {runs.get(session, run_id).archived for run_id in cancelled} == {archived}


def test_a_model_in_use_stays_and_an_unused_one_goes(vezna: Any, registered: Database, cancelled: list[int]) -> None:
    status, printed = vezna("models", "delete", "tiny", "--yes")
    assert (status, "in use" in printed) == (1, True)

    vezna("runs", "delete", *map(str, cancelled), "--yes")
    assert vezna("models", "delete", "tiny", answer="y\n")[0] == 0
    with registered.reading() as session:
        assert base_models.by_name(session, "tiny") is None
