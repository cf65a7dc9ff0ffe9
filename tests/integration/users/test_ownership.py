"""Owners and visibility: what may be changed, transferred and used, by whom."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.domain.accounts.audit import AuditFilter
from app.domain.accounts.ownership import Viewer, Visibility, hides
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.data.dataset import SAMPLE_DATASET
from app.domain.errors import NotFound
from app.domain.models.exports import ExportFormat
from app.features.shipping.services.offers import offers
from app.features.shipping.tables import HubPushRow, ModelExportRow, ParityCheckRow
from app.services.ownership import deletion
from app.services.users import audit, users
from app.store.data import queries as datasets
from app.store.database.owned import Owned
from app.store.database.owners import OWNED
from app.store.database.ownership import kinds
from app.store.database.session import Database
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import ArtifactRow, BaseModelRow, DatasetRow, RunRow, StudyRow
from app.store.workers import queue
from tests.support.filled import exports as filled_exports
from tests.support.rows.accounts import Installation, installed

RUN = {"base_model": "all-MiniLM-L6-v2", "dataset": "bbc-headlines", "method": {"kind": "full"}}


@pytest.fixture
def team(tmp_path: Path, filled_file: Path) -> Iterator[Installation]:
    """An installation in which everything is the member's and visible to the team."""
    with installed(tmp_path, filled_file) as found:
        with found.database.transaction() as session:
            users.create(session, NewUser(email="other@example.org", role=Role.MEMBER))
        yield found


def other_of(team: Installation) -> TestClient:
    with team.database.reading() as session:
        other = users.by_email(session, "other@example.org").id
    member, team.ids[Role.MEMBER] = team.ids[Role.MEMBER], other
    client = team.program(Role.MEMBER)
    team.ids[Role.MEMBER] = member
    return client


def change(client: TestClient, kind: str, key: object, **values: str) -> tuple[int, dict[str, Any]]:
    answer = client.patch(f"/api/v1/ownership/{kind}/{key}", json=values)
    return answer.status_code, answer.json()


def test_the_first_admin_gets_what_was_there_before(team: Installation) -> None:
    owner = team.program(Role.MEMBER).get("/api/v1/ownership/studies/1").json()
    assert (owner["owner"], owner["visibility"], owner["may_change"]) == ("member@example.org", "team", True)
    with team.database.reading() as session:
        assert {row.owner_id for row in session.query(RunRow)} == {team.ids[Role.MEMBER]}


def test_others_see_and_use_what_the_team_sees_and_change_none_of_it(team: Installation) -> None:
    other = other_of(team)
    assert other.get("/api/v1/studies/1").json()["visibility"] == "team"
    for answer in (
        other.patch("/api/v1/studies/1", json={"note": "mine"}),
        other.delete("/api/v1/studies/1"),
        other.post("/api/v1/studies/3/cancel"),
        other.post("/api/v1/studies/1/seeds", json={"count": 1}),
        other.patch("/api/v1/runs/1", json={"note": "mine"}),
        other.delete("/api/v1/models/distilbert-base"),
        other.delete("/api/v1/datasets/bbc-headlines"),
        other.patch("/api/v1/ownership/studies/1", json={"visibility": "private"}),
        other.patch("/api/v1/ownership/datasets/bbc-headlines", json={"owner": "other@example.org"}),
    ):
        assert answer.status_code == 403 and "belongs to member@example.org" in answer.json()["detail"], answer.text
    submitted = other.post("/api/v1/runs", json=RUN)
    assert submitted.status_code == 202 and submitted.json()["visibility"] == "team"
    assert team.program(Role.MEMBER).post(f"/api/v1/runs/{submitted.json()['id']}/cancel").status_code == 403


def test_a_study_becomes_private_with_its_runs_and_is_transferred_with_them(team: Installation) -> None:
    owner, other = team.program(Role.MEMBER), other_of(team)
    assert other.get("/api/v1/studies/1").status_code == 200
    assert change(owner, "studies", 1, visibility="private")[0] == 200
    for path in ("/api/v1/studies/1", "/api/v1/runs/1", "/studies/1", "/api/v1/runs/1/steps"):
        assert other.get(path).status_code == 404, path
    assert change(owner, "runs", 1, visibility="team")[0] == 409  # its study decides
    status, changed = change(owner, "studies", 1, owner="other@example.org")
    assert (status, changed["owner"], changed["may_change"]) == (200, "other@example.org", False)
    assert owner.get("/api/v1/runs/1").status_code == 404 and other.get("/api/v1/runs/1").status_code == 200
    assert change(other, "studies", 1, visibility="team")[0] == 200
    assert owner.get("/api/v1/studies/1").status_code == 200


def test_what_a_study_uses_is_visible_to_all_who_see_it(team: Installation) -> None:
    owner, other = team.program(Role.MEMBER), other_of(team)
    for kind, key in (("datasets", "bbc-headlines"), ("models", "all-MiniLM-L6-v2")):
        status, problem = change(owner, kind, key, visibility="private")
        assert status == 409 and "others see use this" in problem["detail"], problem
    assert change(owner, "models", "distilbert-base", visibility="private")[0] == 200
    assert other.get("/api/v1/models/distilbert-base").status_code == 404
    with team.database.transaction() as session:
        for row in (*session.query(DatasetRow), *session.query(StudyRow), *session.query(RunRow)):
            row.give(team.ids[Role.MEMBER], Visibility.PRIVATE)
    refused = owner.post("/api/v1/runs", json=RUN)
    assert refused.status_code == 422 and [e["path"] for e in refused.json()["errors"]] == ["dataset"]
    private = owner.post("/api/v1/runs?visibility=private", json=RUN)
    assert private.status_code == 202 and private.json()["visibility"] == "private"
    assert change(owner, "runs", private.json()["id"], visibility="team")[0] == 409
    assert other.post("/api/v1/runs?visibility=private", json=RUN).status_code == 422
    admin = team.program(Role.ADMIN).post("/api/v1/runs?visibility=private", json=RUN)
    assert admin.status_code == 422  # the run would be the admin's, and the dataset is not


def test_a_name_that_a_private_object_has_is_refused_as_taken(team: Installation) -> None:
    owner, other = team.program(Role.MEMBER), other_of(team)
    assert change(owner, "models", "distilbert-base", visibility="private")[0] == 200
    body = {"name": "distilbert-base", "source": "hub", "location": "org/model"}
    answer = other.post("/api/v1/models", json=body)
    assert answer.status_code == 409 and answer.json()["detail"].endswith("is taken. Choose another name.")


def test_the_sample_is_registered_beside_a_private_dataset_of_its_name(team: Installation) -> None:
    with team.database.transaction() as session:
        session.query(DatasetRow).one().give(team.ids[Role.ADMIN], Visibility.PRIVATE)
    other = other_of(team)
    assert other.post("/lab/sample", data={"step": "step-5"}).status_code == 303
    names = {row["name"] for row in other.get("/api/v1/datasets").json()}
    assert f"{SAMPLE_DATASET}-sample" in names and SAMPLE_DATASET not in names


def test_the_same_file_of_two_users_is_two_uploads(team: Installation) -> None:
    owner, other = team.program(Role.MEMBER), other_of(team)
    rows = b"text,label\nyes,1\nno,0\n"
    first, second, again, private = (
        client.put(f"/api/v1/uploads/files/rows.csv{query}", content=rows).json()
        for client, query in ((owner, "?visibility=private"), (other, ""), (other, ""), (owner, ""))
    )
    assert "id" in first and "id" in second, (first, second)
    assert first["id"] != second["id"] == again["id"] and private["id"] == first["id"]
    assert first["parts"][0]["file"] != second["parts"][0]["file"]
    assert other.get(f"/api/v1/uploads/{first['id']}").status_code == 404


def test_admins_see_private_objects_and_that_is_in_the_audit_log(team: Installation) -> None:
    owner, admin = team.program(Role.MEMBER), team.program(Role.ADMIN)
    assert change(owner, "studies", 2, visibility="private")[0] == 200
    assert owner.get("/api/v1/studies/2").status_code == 200
    assert admin.get("/api/v1/studies/2").status_code == admin.get("/api/v1/studies/2").status_code == 200
    opened = [e for e in audit.entries(team.database, AuditFilter(), 0) if e.action == "ownership.open"]
    assert [(e.subject, e.name) for e in opened] == [("studies 2", "admin@example.org")]
    reader = team.program(Role.ADMIN, *[s for s in admin.get("/api/v1/me").json()["scopes"] if s == "read"])
    assert reader.get("/api/v1/studies/2").status_code == 404  # the token's scopes bound what it sees


def test_comparing_exports_artifacts_and_refused_changes_are_noted_too(
    team: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_opened", {})
    with team.database.transaction() as session:
        export = filled_exports.add(session, 3, ExportFormat.ADAPTER, "failed")
        push = HubPushRow(export_id=filled_exports.add(session, 4, ExportFormat.ADAPTER, "failed"), repository="o/m")
        push.card = "card"
        session.add(push)
        session.flush()
        artifact = session.scalars(select(ArtifactRow).where(ArtifactRow.run_id == 6)).first()
        assert artifact is not None
        paths = [f"exports/{export}", f"pushes/{push.id}", f"artifacts/{artifact.id}", "compare?runs=1&runs=2"]
    assert change(team.program(Role.MEMBER), "studies", 1, visibility="private")[0] == 200
    admin = team.program(Role.ADMIN)
    assert [admin.get(f"/api/v1/{path}").status_code for path in paths] == [200] * 4
    assert change(admin, "runs", 5, visibility="team")[0] == 409
    assert admin.get("/api/v1/studies").status_code == 200  # a list is no access
    opened = [e.subject for e in audit.entries(team.database, AuditFilter(), 0) if e.action == "ownership.open"]
    assert set(opened) - {"studies 1"} == {f"runs {number}" for number in range(1, 7)}


@pytest.mark.slow
def test_a_copy_of_private_work_is_private_unless_its_user_says_otherwise(team: Installation) -> None:
    owner = team.program(Role.MEMBER)
    assert change(owner, "studies", 1, visibility="private")[0] == 200
    for query, private in (("from_study=1", True), ("from_run=2", True), ("from_study=2", False), ("", False)):
        box = owner.get(f"/studies/new?{query}").text.partition('name="private"')[2].partition(">")[0]
        assert ("checked" in box) is private and box, query
    for query, visibility in (("", "private"), ("&visibility=team", "team")):
        again = owner.post(f"/api/v1/runs/2/reproductions?insist=true{query}")
        assert (again.status_code, again.json()["visibility"]) == (202, visibility), again.text


def test_what_is_to_be_private_is_refused_where_the_team_sees_the_same(team: Installation) -> None:
    owner = team.program(Role.MEMBER)
    send = partial(owner.put, content=b"text,label\nyes,1\nno,0\n")
    assert send("/api/v1/uploads/files/rows.csv").json()["visibility"] == "team"
    known = owner.get("/api/v1/models/distilbert-base").json()
    model = {name: known[name] for name in ("name", "source", "location")}
    source = {"source": "hub", "location": "org/data"}
    assert owner.post("/api/v1/uploads/sources", json=source).status_code == 202
    for refused in (
        send("/api/v1/uploads/files/rows.csv?visibility=private"),
        owner.post("/api/v1/models?visibility=private", json=model),
        owner.post("/api/v1/uploads/sources?visibility=private", json=source),
    ):
        assert refused.status_code == 409 and "make it private on its page first" in refused.json()["detail"]


def test_a_failed_export_of_the_team_is_replaced_and_an_estimate_of_a_config_is_its_users(team: Installation) -> None:
    owner, other = team.program(Role.MEMBER), other_of(team)
    with team.database.transaction() as session:
        failed = filled_exports.add(session, 2, ExportFormat.ADAPTER, "failed")
        session.get_one(ModelExportRow, failed).owner_id = team.ids[Role.MEMBER]
        format_of_run = next(offer.format for offer in offers(session, runs.get(session, 2)) if not offer.refused)
        session.get_one(ModelExportRow, failed).format = format_of_run.value
    assert other.delete(f"/api/v1/exports/{failed}").status_code == 403
    again = other.post("/api/v1/runs/2/exports", json={"format": format_of_run.value})
    assert again.status_code == 202 and again.json()["id"] != failed, again.text
    config = {"model_type": "llama", "hidden_size": 64}
    body = {"config": config, "task": "causal-lm", "methods": [{"kind": "full"}]}
    ids = []
    for client in (owner, other, owner):
        [arm] = client.post("/api/v1/estimates", json=body).json()["arms"]
        ids.append(arm["devices"][0]["estimate_id"])
        assert client.get(f"/api/v1/estimates/{ids[-1]}").status_code == 200
    assert ids[0] == ids[2] != ids[1]
    assert other.get(f"/api/v1/estimates/{ids[0]}").status_code == 404


def test_a_parity_check_is_cancelled_by_its_user_the_owner_of_its_run_and_admins(team: Installation) -> None:
    owner, other = team.program(Role.MEMBER), other_of(team)
    with team.database.transaction() as session:
        runs.get(session, 1).owner_id = team.ids[Role.MEMBER]
        checks = [ParityCheckRow(run_id=1, url="https://models.example.org/v1", model="m") for _place in range(3)]
        session.add_all(checks)
        session.flush()
        of_other, of_owner, unclaimed = (check.id for check in checks)
        checks[0].owner_id = users.by_email(session, "other@example.org").id
        checks[1].owner_id = team.ids[Role.MEMBER]
    assert other.post(f"/api/v1/parity-checks/{of_owner}/cancel").status_code == 403
    assert other.post(f"/api/v1/parity-checks/{of_other}/cancel").status_code == 202
    assert owner.post(f"/api/v1/parity-checks/{of_owner}/cancel").status_code == 202
    assert owner.post(f"/api/v1/parity-checks/{unclaimed}/cancel").status_code == 202


def test_a_user_who_becomes_admin_gets_what_has_no_owner(database: Database) -> None:
    with database.transaction() as session:
        user = users.create(session, NewUser(email="new@example.org", role=Role.MEMBER))
        model = BaseModelRow(name="m", source="hub", location="o/m")
        session.add(model)
        users.set_role(session, user.id, Role.VIEWER)
        assert model.owner_id is None
        users.set_role(session, user.id, Role.ADMIN)
        session.refresh(model)
        assert model.owner_id == user.id


def test_private_runs_that_measure_forgetting_are_not_counted_for_others(team: Installation) -> None:
    with team.database.transaction() as session:
        session.add(DatasetRow(name="texts"))
        for run_id in (1, 2):
            run = runs.get(session, run_id)
            run.spec_json = run.spec_json | {"general_text": "texts"}
        runs.get(session, 1).give(team.ids[Role.MEMBER], Visibility.PRIVATE)
    answers = []
    for user in (team.ids[Role.MEMBER], team.ids[Role.VIEWER]):
        with team.database.seen_by(Viewer(user)).transaction() as session:
            answers.append(deletion.of_dataset(session, datasets.find(session, "texts")).refused)
            if user == team.ids[Role.MEMBER]:
                runs.get(session, 2).give(user, Visibility.PRIVATE)
    assert "texts (2)" in answers[0] and answers[1].startswith("Other users use texts@1 in private")


def test_an_owner_has_to_exist_and_a_change_has_to_change_something(team: Installation) -> None:
    owner = team.program(Role.MEMBER)
    for values in ({"owner": "nobody@example.org"}, {}, {"visibility": "public"}):
        assert owner.patch("/api/v1/ownership/studies/1", json=values).status_code == 422
    for key in ("999", "x", "-1", "1.0", "٣"):
        assert owner.get(f"/api/v1/ownership/studies/{key}").status_code == 404, key


@pytest.mark.slow
def test_the_page_offers_the_change_to_the_owner_alone(team: Installation) -> None:
    owner, other = team.program(Role.MEMBER), other_of(team)
    assert 'id="change-ownership"' in owner.get("/studies/1").text
    shown = other.get("/studies/1").text
    assert 'id="change-ownership"' not in shown and "member@example.org" in shown and "visible to the team" in shown
    moved = owner.post("/ownership/studies/1", data={"visibility": "private", "owner": ""})
    assert (moved.status_code, moved.headers["location"]) == (303, "/studies/1")
    assert other.get("/studies/1").status_code == 404
    given = owner.post("/ownership/studies/1", data={"visibility": "private", "owner": "other@example.org"})
    assert (given.status_code, given.headers["location"]) == (303, "/studies")


def test_a_session_without_a_user_sees_everything_and_one_of_nobody_only_the_team(database: Database) -> None:
    with database.transaction() as session:
        model = BaseModelRow(name="m", source="hub", location="o/m")
        session.add(model)
        session.flush()
        model.give(1, Visibility.PRIVATE)
        session.add(BaseModelRow(name="t", source="hub", location="o/t"))
    for viewer, names in (
        (None, {"m", "t"}),
        (Viewer(0), {"t"}),
        (Viewer(1), {"m", "t"}),
        (Viewer(2, True), {"m", "t"}),
    ):
        with database.seen_by(viewer).reading() as session:
            assert {row.name for row in session.query(BaseModelRow)} == names, viewer
    with pytest.raises(NotFound), database.seen_by(Viewer(3)).reading() as session:
        studies.get(session, queue.place_in_queue(session, RunRow(id=1, precedence=1, place=1)))


@pytest.mark.parametrize("used", [None, 1, 2])
@pytest.mark.parametrize("by", [None, 1, 2])
def test_what_is_used_cannot_be_hidden_from_those_who_see_what_uses_it(used: int | None, by: int | None) -> None:
    viewers = [Viewer(1), Viewer(2), Viewer(3)]
    gap = any(viewer.may_see(by) and not viewer.may_see(used) for viewer in viewers)
    assert hides(used, by) is gap


def test_every_table_with_an_owner_is_in_the_order_of_locks() -> None:
    assert OWNED[:2] == (StudyRow, RunRow), "a study is locked before its runs"
    assert {*OWNED} == {*kinds(Owned)}
