"""Paths of directories on the server: admins see them, other users the name of the directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.accounts.policy import Role
from app.features.elsewhere.services import tracker_exports
from app.features.elsewhere.tables import TrackerExportRow
from app.services.models import models
from app.store.database.messages import as_stored
from app.store.tables import BaseModelRow, DatasetRow, UploadRow, now
from tests.support.checks.access_table import filled_in, routes
from tests.support.rows.accounts import Installation, installed

ROOT = "/srv/zephyr"
MODEL, DATA, MISSING = f"{ROOT}/models/mine", f"{ROOT}/data/reviews", f"{ROOT}/models/lost"

UPLOAD = 1
"""Its id."""


@pytest.fixture
def team(tmp_path: Path, filled_file: Path) -> Iterator[Installation]:
    roots = {"model_roots": [Path(ROOT)], "data_roots": [Path(ROOT)]}
    with installed(tmp_path, filled_file, **roots) as found:
        with found.database.transaction() as session:
            model = session.get_one(BaseModelRow, 1)
            model.source, model.location = "directory", MODEL
            lost = BaseModelRow(name="lost", source="directory", location=MISSING)
            upload = UploadRow(source="directory", name=DATA, location=DATA, status="failed", message="no file")
            session.add_all([lost, upload])
            session.flush()
            models.uninspectable(session, lost.id, f"OSError: Can't load '{MISSING}/config.json' from {MISSING}.")
            session.query(DatasetRow).one().upload_id = upload.id
            lost.owner_id = upload.owner_id = found.ids[Role.MEMBER]
            assert upload.id == UPLOAD
        yield found


@pytest.mark.slow
def test_no_page_and_no_answer_tells_a_member_a_path_of_the_server(team: Installation, tmp_path: Path) -> None:
    values = {"{name:path}": "lost", "{name}": "reviews", "{upload_id:int}": "1", "{upload_id}": "1"}
    browser, program, walked = team.browser(Role.MEMBER), team.program(Role.MEMBER), 0
    for method, path in routes(team.app):
        if method != "GET" or "event" in path or "live" in path:
            continue
        address = path
        for name, value in values.items():
            address = address.replace(name, value)
        for client in (browser, program):
            answer = client.get(filled_in(address))
            assert ROOT not in answer.text and str(tmp_path) not in answer.text, (address, answer.text[:300])
            walked += answer.status_code == 200
    assert walked > 60


def test_an_admin_sees_the_paths_and_a_member_the_names(team: Installation) -> None:
    member, admin = team.program(Role.MEMBER), team.program(Role.ADMIN)
    for path, field, whole in (
        ("models/lost", "location", MISSING),
        (f"uploads/{UPLOAD}", "location", DATA),
        (f"uploads/{UPLOAD}", "name", DATA),
    ):
        assert admin.get(f"/api/v1/{path}").json()[field] == whole
        assert member.get(f"/api/v1/{path}").json()[field] == Path(whole).name
    pages = {"/models": ROOT, "/models/lost": MISSING, "/data": ROOT, f"/data/uploads/{UPLOAD}": DATA}
    for page, shown in pages.items():
        assert shown in team.browser(Role.ADMIN).get(page).text, page
        assert ROOT not in team.browser(Role.MEMBER).get(page).text, page
    message = member.get("/api/v1/models/lost").json()["message"]
    assert message == "OSError: Can't load 'config.json' from lost."


@pytest.mark.parametrize("path", ["models", "uploads/sources"])
def test_only_an_admin_is_told_the_allowed_directories(team: Installation, path: str) -> None:
    sent = {"name": "x", "source": "directory", "location": "/etc"} if path == "models" else {
        "source": "directory", "location": "/etc"}  # fmt: skip
    refused = team.program(Role.MEMBER).post(f"/api/v1/{path}", json=sent)
    assert refused.status_code == 422 and ROOT not in refused.text and "Ask an admin" in refused.text
    assert ROOT in team.program(Role.ADMIN).post(f"/api/v1/{path}", json=sent).text


def test_a_member_has_a_model_inspected_again_without_its_path(team: Installation) -> None:
    browser = team.browser(Role.MEMBER)
    assert 'action="/models/lost/inspection"' in browser.get("/models/lost").text
    answer = browser.post("/models/lost/inspection")
    assert (answer.status_code, answer.headers["location"]) == (303, "/models/lost")
    with team.database.reading() as session:
        row = session.query(BaseModelRow).where(BaseModelRow.name == "lost").one()
        assert (row.status, row.location) == ("inspecting", MISSING)
    with team.database.transaction() as session:
        row = session.query(BaseModelRow).where(BaseModelRow.name == "lost").one()
        row.status, row.owner_id = "failed", team.ids[Role.ADMIN]
    assert browser.post("/models/lost/inspection").status_code == 403


def test_only_an_admin_sees_where_the_folder_of_a_tracker_is(team: Installation) -> None:
    with team.database.transaction() as session:
        session.add(TrackerExportRow(study_id=1, exported_at=now(), url=f"{ROOT}/runs/1"))
    for role, shown in ((Role.ADMIN, f"{ROOT}/runs/1"), (Role.MEMBER, "1")):
        assert team.program(role).get("/api/v1/studies/1").json()["tracker_export"]["url"] == shown
        assert (ROOT in team.browser(role).get("/studies/1").text) is (role is Role.ADMIN)
    claim = tracker_exports.Claim(1, False, False, 0, 9, now())
    with team.database.transaction() as session:
        session.get_one(TrackerExportRow, 1).next_at = claim.again
        session.flush()
        tracker_exports.failed(session, claim, f"[Errno 28] No space left on device: '{ROOT}/runs/1/events'")
    message = team.program(Role.MEMBER).get("/api/v1/studies/1").json()["tracker_export"]["message"]
    assert message == "[Errno 28] No space left on device: 'events'"


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        (f"{DATA} does not exist on this worker.", "reviews does not exist on this worker."),
        (f"[Errno 2] No such file: '{MODEL}/x.json'", "[Errno 2] No such file: 'x.json'"),
        (f"the disk with {ROOT}/ is full\0", "the disk with zephyr/ is full\N{REPLACEMENT CHARACTER}"),
        ("see https://example.org/a/b, and/or 3/4/5", "see https://example.org/a/b, and/or 3/4/5"),
    ],
)
def test_a_stored_message_has_the_name_instead_of_the_path(said: str, stored: str) -> None:
    assert as_stored(said) == stored
