"""Users' tokens of the hub: stored encrypted, shown nowhere, used for their own runs only."""

import hashlib
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import BaseModel, ValidationError
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.cli.data import hub_token as command
from app.domain.accounts.ownership import Viewer
from app.domain.accounts.policy import Role, Scope
from app.domain.accounts.users import NewUser
from app.domain.errors import Invalid, Unavailable
from app.domain.methods import FullSpec, LoraSpec
from app.domain.models.exports import ExportJob
from app.domain.runs.spec import RunSpec
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.features.serving.rules import ModelJob, WorkRequest
from app.services.data import baselines
from app.services.ownership import ownership, stored_secrets
from app.services.ownership.vault import KEY_FILE, Vault
from app.services.resources.requests import run_request
from app.services.runs import runs, submission
from app.services.studies import studies
from app.services.users import hub_tokens, users
from app.services.users.hub_tokens import NewHubToken
from app.services.workers import reservations
from app.services.workers import workers as worker_service
from app.store.data import queries as datasets
from app.store.database.session import Database
from app.store.models import queries as base_models
from app.store.resources import estimates
from app.store.tables import AuditEventRow, BaseModelRow, EstimateRow, RunRow
from app.store.users import queries as user_queries
from tests.support.checks.access_table import routes
from tests.support.rows.accounts import Installation, installed
from tests.support.servers.served import served
from tests.support.servers.supervised import claimed, here, messages, submitted  # noqa: F401 `here` is a fixture
from worker.ingest.child import FetchRequest
from worker.nodes.context import Context
from worker.training.protocol import Handover, Position
from worker.training.supervisor import supervise
from worker.training.warm_pool import WarmPool

ADA, BOB = "hf_" + "ada" * 11 + "9xyz", "hf_" + "bob" * 11 + "7uvw"
NEW = {"token": ADA}


@pytest.fixture
def installation(tmp_path: Path, migrated_file: Path) -> Iterator[Installation]:
    """An application that requires a login."""
    with installed(tmp_path, migrated_file) as made:
        yield made


@pytest.mark.slow
def test_a_token_is_stored_encrypted_and_no_answer_shows_it(
    installation: Installation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    member, admin = installation.browser(Role.MEMBER), installation.browser(Role.ADMIN)
    assert "None is stored" in member.get("/account").text
    answer = member.post("/account/hub-token", data={"hub_token": f" {ADA} "})
    assert (answer.status_code, answer.headers["location"]) == (303, "/account?done=hub-token#hub-token")
    page = member.get("/account?done=hub-token").text
    assert "…9xyz" in page and "The hub token is stored" in page
    shown = member.get("/api/v1/hub-token").json()
    assert (shown["stored"], shown["ends_with"]) == (True, "9xyz") and shown["stored_at"]
    assert admin.get("/api/v1/hub-token").json()["stored"] is False, "of another user"
    for method, path in routes(installation.app):
        if method == "GET" and "{" not in path and not path.endswith("/events"):
            assert ADA[:-4] not in admin.get(path).text + member.get(path).text, path
    with installation.database.reading() as session:
        entries = session.scalars(select(AuditEventRow).where(AuditEventRow.action == "hub_token.set")).all()
        assert [(entry.name, entry.details) for entry in entries] == [("member@example.org", {"replaced": False})]
    installation.database.dispose()
    assert ADA[:-4].encode() not in b"".join(file.read_bytes() for file in tmp_path.glob("vezna.sqlite*"))
    assert ADA[:-4] not in caplog.text


def test_it_is_replaced_removed_and_refused(installation: Installation) -> None:
    member = installation.program(Role.MEMBER)
    assert member.put("/api/v1/hub-token", json=NEW).json()["ends_with"] == "9xyz"
    assert member.put("/api/v1/hub-token", json={"token": BOB}).json()["ends_with"] == "7uvw"
    for wrong in ("hf_short", f"{ADA} {BOB}", "hf_" + "я" * 30, f"{ADA}\n{BOB}", "x" * 400, ""):
        for answer in (
            member.put("/api/v1/hub-token", json={"token": wrong}),
            installation.browser(Role.MEMBER).post("/account/hub-token", data={"hub_token": wrong}),
        ):
            assert answer.status_code == 422 and "This is not a token of the hub" in answer.text, wrong
            assert not wrong or wrong not in answer.text
    assert member.get("/api/v1/hub-token").json()["ends_with"] == "7uvw"
    assert installation.program(Role.MEMBER, Scope.READ).put("/api/v1/hub-token", json=NEW).status_code == 403
    assert installation.program(Role.VIEWER).put("/api/v1/hub-token", json=NEW).status_code == 403
    viewer = installation.browser(Role.VIEWER)
    assert viewer.post("/account/hub-token", data={"hub_token": ADA}).status_code == 403
    assert 'id="hub-token"' not in viewer.get("/account").text
    assert member.delete("/api/v1/hub-token").status_code == 204
    assert member.delete("/api/v1/hub-token").status_code == 404
    assert member.get("/api/v1/hub-token").json() == {"stored": False, "ends_with": "", "stored_at": None}


def test_who_starts_no_runs_any_more_still_removes_the_token(installation: Installation) -> None:
    member, ada = installation.browser(Role.MEMBER), installation.ids[Role.MEMBER]
    for remove in (
        lambda: member.post("/account/hub-token/remove").status_code == 303,
        lambda: member.delete("/api/v1/hub-token").status_code == 204,
    ):
        assert installation.program(Role.MEMBER).put("/api/v1/hub-token", json=NEW).status_code == 200
        _set_role(installation, ada, Role.VIEWER)
        page = member.get("/account").text
        assert 'id="remove-hub-token"' in page and 'id="save-hub-token"' not in page
        assert remove() and 'id="hub-token"' not in member.get("/account").text
        _set_role(installation, ada, Role.MEMBER)


def _set_role(installation: Installation, user_id: int, role: Role) -> None:
    with installation.database.transaction() as session:
        user_queries.get(session, user_id, lock=True).role_name = role.value


def test_the_command_reads_it_from_standard_input(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VEZNA_TOKEN", installation.token(Role.MEMBER))
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{ADA}\n"))
    with served(installation.app) as url:
        command.store(url)
        command.show_stored(url)
        command.remove(url)
        command.show_stored(url)
    said = capsys.readouterr().out
    assert "ends with 9xyz is stored" in said and "No hub token is stored" in said and ADA not in said


def test_a_key_is_replaced_and_a_missing_one_is_said(installation: Installation) -> None:
    settings, ada = installation.settings, installation.ids[Role.MEMBER]
    with installation.database.transaction() as session:
        hub_tokens.store(session, Vault(settings), user_queries.get(session, ada, lock=True), NewHubToken(**NEW))
    file = settings.home / KEY_FILE
    old, new = file.read_bytes(), Fernet.generate_key()
    file.write_bytes(new + b"\n" + old)
    assert stored_secrets.rotate(installation.database, Vault(settings)) == 1
    with installation.database.reading() as session:
        file.write_bytes(new)
        access = hub_tokens.access_of(session, Vault(settings), ada)
        assert access and access.token == ADA and ADA not in repr(access)
        file.write_bytes(old)
        with pytest.raises(Unavailable, match="its key is missing"):
            hub_tokens.access_of(session, Vault(settings), ada)
    with installation.database.transaction() as session:
        file.write_bytes(new)
        users.set_disabled(session, ada, True)
        assert hub_tokens.access_of(session, Vault(settings), ada) is None
        users.set_disabled(session, ada, False)
        assert hub_tokens.access_of(session, Vault(settings), ada)
        user_queries.get(session, ada, lock=True).role_name = Role.VIEWER.value
        assert hub_tokens.access_of(session, Vault(settings), ada) is None


def owners(context: Context) -> tuple[int, int]:
    """Ada and Bob, who have tokens, and a base model that the hub opens to some accounts only."""
    with context.database.transaction() as session:
        model = base_models.by_name(session, "tiny")
        assert model is not None and model.facts_json is not None
        model.source, model.location = "hub", "someone/tiny"
        model.facts_json = model.facts_json | {"restricted": True}
        found = []
        for name, token in (("ada", ADA), ("bob", BOB)):
            user = users.create(session, NewUser(email=f"{name}@example.org", role=Role.MEMBER))
            hub_tokens.store(session, Vault(context.settings), user, NewHubToken(token=token))
            found.append(user.id)
    return found[0], found[1]


TELLS = """
import hashlib, json, os, sys
first = sys.stdin.readline()
handover = json.loads(first)
hub = handover.pop("hub") or {"user_id": None, "token": ""}
known = (open("/proc/self/cmdline").read(), repr(dict(os.environ)), open(handover["job"]).read())
digest = hashlib.sha256(hub["token"].encode()).hexdigest()
told = f"{hub['user_id']} {digest} {any(hub['token'] and hub['token'] in text for text in known)}"
print(json.dumps({"type": "log", "message": told}), flush=True)
"""


def test_a_run_gets_the_token_of_its_owner_and_of_no_one_else(here: Context) -> None:  # noqa: F811
    """By stdin: neither its command line, its environment nor its job file has it."""
    ada, bob = owners(here)
    for owner, token in ((ada, ADA), (bob, BOB), (None, "")):
        run_id = submitted(here)
        with here.database.transaction() as session:
            session.execute(update(RunRow).where(RunRow.id == run_id).values(owner_id=owner))
        claim = claimed(here, run_id)
        assert claim.hub_user == owner
        supervise(replace(here, trainers=WarmPool((sys.executable, "-c", TELLS))), claim)
        digest = hashlib.sha256(token.encode()).hexdigest()
        assert f"{owner} {digest} False" in messages(here, run_id)
        assert not [line for line in messages(here, run_id) if "hf_" in line]


def test_an_open_model_gets_no_token(here: Context) -> None:  # noqa: F811
    ada, _bob = owners(here)
    run_id = submitted(here)
    with here.database.transaction() as session:
        session.execute(update(RunRow).where(RunRow.id == run_id).values(owner_id=ada))
        model = session.scalars(select(BaseModelRow)).one()
        model.facts_json = {**(model.facts_json or {}), "restricted": False}
    assert claimed(here, run_id).hub_user is None


def _seen_by(database: Database, user: int) -> Database:
    return database.seen_by(Viewer(user, sees_all=False))


def test_users_without_a_token_cannot_submit_runs_of_a_model_that_needs_one(here: Context) -> None:  # noqa: F811
    ada, bob = owners(here)
    spec = RunSpec(base_model="tiny", dataset="small", method=FullSpec())
    with here.database.transaction() as session:
        hub_tokens.remove(session, bob)
    with _seen_by(here.database, bob).transaction() as session, pytest.raises(Invalid) as refused:
        runs.submit(session, here.bell, spec)
    [error] = refused.value.fields
    assert error.path == "base_model" and "Store a hub token with access" in error.remedy
    with _seen_by(here.database, ada).transaction() as session:
        assert runs.submit(session, here.bell, spec).owner_id == ada


def study_of(here: Context, owner: int) -> int:  # noqa: F811
    """A study on the restricted model."""
    spec = StudySpec.model_validate(
        {"name": "s", "base_model": "tiny", "dataset": "small", "seeds": [0], "arms": [{"method": {"kind": "full"}}]}
    )
    with _seen_by(here.database, owner).transaction() as session:
        return studies.submit(session, here.bell, spec).id


def test_an_admin_that_adds_to_a_study_needs_no_token_but_its_owner_does(here: Context) -> None:  # noqa: F811
    ada, bob = owners(here)
    study = study_of(here, ada)
    admin = here.database.seen_by(Viewer(bob, sees_all=True))
    arm = ArmSpec.model_validate({"method": {"kind": "bitfit"}})
    with here.database.transaction() as session:
        hub_tokens.remove(session, bob)
    with admin.transaction() as session:
        studies.add_seeds(session, here.bell, study, 1)
        studies.add_arm(session, here.bell, study, arm)
    with here.database.transaction() as session:
        hub_tokens.remove(session, ada)
    with admin.transaction() as session, pytest.raises(Invalid) as refused:
        studies.add_seeds(session, here.bell, study, 1)
    assert "the owner has no token" in refused.value.fields[0].message
    with pytest.raises(Invalid, match="the owner has no token"):
        submission.add_arm(
            admin, here.bell, here.settings, study, ArmSpec(method=LoraSpec()), lambda _session: None, insist=True
        )


def test_an_estimate_of_such_a_model_is_of_one_user(here: Context) -> None:  # noqa: F811
    ada, bob = owners(here)

    def request(session: Session) -> tuple[int | None, str]:
        model, dataset = base_models.by_name(session, "tiny"), datasets.by_name(session, "small")
        assert model and dataset
        made = run_request(RunSpec(base_model="tiny", dataset="small", method=FullSpec()), model, dataset)
        return made.hub_user, made.key

    with _seen_by(here.database, ada).reading() as session:
        of_ada = request(session)
    with _seen_by(here.database, bob).reading() as session:
        of_bob = request(session)
    with here.database.transaction() as session:
        model = session.scalars(select(BaseModelRow)).one()
        of_nobody = request(session)
        model.facts_json = {**(model.facts_json or {}), "restricted": False}
        assert request(session) == of_nobody
    assert [user for user, _key in (of_ada, of_bob, of_nobody)] == [ada, bob, None]
    assert len({key for _user, key in (of_ada, of_bob, of_nobody)}) == 3


@pytest.mark.parametrize("message", [Handover, Position, FetchRequest, ExportJob, ModelJob, WorkRequest])
def test_an_error_in_what_a_child_process_gets_does_not_show_the_token(message: type[BaseModel]) -> None:
    """The part with the token is wrong itself."""
    hub = {"token": ADA, "unknown": ADA}
    sent = {"jobs": [{"hub": hub}]} if message is WorkRequest else {"hub": hub}
    with pytest.raises(ValidationError) as wrong:
        message.model_validate(sent)
    assert "hub.user_id" in str(wrong.value) and ADA not in str(wrong.value)


def test_what_is_reserved_for_a_run_rests_on_the_estimate_of_its_owner(
    here: Context,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also in the sweep, which has no user."""
    ada, _bob = owners(here)
    spec = RunSpec(base_model="tiny", dataset="small", method=FullSpec())
    with here.database.transaction() as session:
        worker_service.sign_on(session, "w1", device="cpu", device_name="CPU", memory_bytes=None, cores=1)
    with _seen_by(here.database, ada).transaction() as session:
        estimate_id = runs.submit(session, here.bell, spec).estimate_id
    asked: list[str] = []
    known = estimates.by_keys
    monkeypatch.setattr(estimates, "by_keys", lambda session, keys: asked.extend(keys) or known(session, keys))
    with here.database.transaction() as session:
        assert estimate_id is not None
        reservations.revise(session, estimate_id)
        assert asked == [session.get_one(EstimateRow, estimate_id).key]


def test_a_new_owner_gets_baselines_of_their_own(here: Context) -> None:  # noqa: F811
    ada, bob = owners(here)
    study = study_of(here, ada)

    def users_of_baselines() -> set[int]:
        with here.database.reading() as session:
            rows = session.scalars(select(EstimateRow).where(EstimateRow.kind == "baseline"))
            return {row.request_json["hub_user"] for row in rows} - {None}

    assert users_of_baselines() == {ada}
    with here.database.transaction() as session:
        ownership.change(session, "studies", str(study), ownership.OwnershipChange(owner="bob@example.org"))
        baselines.of_new_owner(session, here.bell, "bob@example.org")
    assert users_of_baselines() == {ada, bob}
