"""Model cards, and pushes of exports to a hub on this machine, on SQLite and on PostgreSQL."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from huggingface_hub import ModelCard, constants
from pydantic import SecretStr

from app.broker.queue import PUSH
from app.domain.accounts.policy import SCOPES, SINGLE_USER, Identity, Role
from app.domain.errors import Conflict, Invalid, Unavailable, VeznaError
from app.domain.models.exports import ExportFormat
from app.features.shipping.cli import push as push_cli
from app.features.shipping.cli import receipts as receipts_cli
from app.features.shipping.rules.push import HubPush
from app.features.shipping.services import model_cards
from app.features.shipping.services import pushes as hub_pushes
from app.features.shipping.services.work import EXPORTS, PUSHES
from app.features.shipping.tables import HubPushRow, ModelExportRow
from app.features.shipping.words.model_card import model_card
from app.main import create_app
from app.services.ownership.vault import Vault
from app.services.users import hub_tokens
from app.services.users.hub_tokens import NewHubToken
from app.settings import Settings
from app.store.tables import RunRow, UserRow
from tests.features.shipping.test_model_exports import (  # noqa: F401 fixtures
    MERGED,
    run_id,
    saved,
    submit,
    worker,
)
from tests.support.fakes import hub as small_hub
from tests.support.fakes.fakes import WorkingBell
from tests.support.servers.forms import form_headers
from tests.support.servers.served import served
from worker.features.shipping import node
from worker.features.shipping import node as tasks
from worker.features.shipping.host import ExportQueue
from worker.nodes.context import Context

REPOSITORY = "someone/words"
TOKEN = "hf_" + "a" * 34


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[small_hub.Hub]:
    """A hub without models that takes what is pushed."""
    with small_hub.serving() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield found


@pytest.fixture
def pusher(worker: Context) -> Context:  # noqa: F811
    """A worker with a token of the hub."""
    return with_token(worker, TOKEN)


def with_token(worker: Context, token: str) -> Context:  # noqa: F811
    return replace(worker, settings=worker.settings.model_copy(update={"hub_token": SecretStr(token)}))


@pytest.fixture
def export_id(worker: Context, run_id: int) -> int:  # noqa: F811
    """A merged export whose gate has passed."""
    export = submit(worker, run_id, MERGED)
    tasks.export(worker, export)
    with worker.database.transaction() as session:
        row = EXPORTS.get(session, export)
        row.gate_json = {**(row.gate_json or {}), "outcome": "pass"}
    return export


MEMBER, ADMIN = (Identity(1, "a@example.org", "A", role, SCOPES[role]) for role in (Role.MEMBER, Role.ADMIN))


def pushed(pusher: Context, export: int, user: Identity = SINGLE_USER, **changes: object) -> int:
    new = HubPush.model_validate({"repository": REPOSITORY, **changes})
    with pusher.database.transaction() as session:
        card = model_card(model_cards.of_export(session, export), new.repository, new.reason)
        return hub_pushes.submit(session, pusher.bell, pusher.settings, export, new, card, user).id


def row(pusher: Context, push_id: int) -> HubPushRow:
    with pusher.database.reading() as session:
        return PUSHES.get(session, push_id)


@pytest.mark.slow
def test_a_push_uses_the_token_of_its_user(pusher: Context, export_id: int, hub: small_hub.Hub) -> None:
    own = "hf_" + "b" * 34
    settings = pusher.settings.model_copy(update={"hub_namespaces": ("someone",)})
    pusher = replace(pusher, settings=settings)
    with pusher.database.transaction() as session:
        session.add(UserRow(id=1, email="a@example.org", role_name="member"))
        session.flush()
        hub_tokens.store(session, Vault(settings), session.get_one(UserRow, 1), NewHubToken(token=own))
    push_id = pushed(pusher, export_id, MEMBER)
    node.push(pusher, push_id)
    assert row(pusher, push_id).status == "succeeded" and own in hub.tokens <= {own, ""}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("lost", "why"),
    [
        ("token", "hub token .* was removed"),
        ("access", "is disabled"),
        ("role", "has lost the role"),
        ("publishing", "has lost the role"),
        ("run", "is now private to another user"),
    ],
)
def test_a_push_of_a_user_who_has_lost_what_it_needs_uploads_nothing(
    lost: str, why: str, pusher: Context, export_id: int, hub: small_hub.Hub
) -> None:
    settings = pusher.settings.model_copy(update={"hub_namespaces": ("someone",)})
    pusher = replace(pusher, settings=settings)
    with pusher.database.transaction() as session:
        session.add(UserRow(id=1, email="a@example.org", role_name="member"))
        session.flush()
        new = NewHubToken(token="hf_" + "b" * 34)
        hub_tokens.store(session, Vault(settings), session.get_one(UserRow, 1), new)
    push_id = pushed(pusher, export_id, ADMIN if lost == "publishing" else MEMBER, private=lost != "publishing")
    with pusher.database.transaction() as session:
        user = session.get_one(UserRow, 1)
        if lost == "run":
            session.add(UserRow(id=2, email="b@example.org", role_name="member"))
            session.flush()
            run = session.get_one(RunRow, EXPORTS.get(session, export_id).run_id)
            run.owner_id = run.private_to = 2
        elif lost == "token":
            hub_tokens.remove(session, 1)
        elif lost == "access":
            user.disabled = True
        elif lost == "role":
            user.role_name = "viewer"
    node.push(pusher, push_id)
    failed = row(pusher, push_id)
    assert failed.status == "failed" and re.search(why, failed.message), failed.message
    assert hub.asked == []


@pytest.mark.slow
def test_a_push_takes_files_card_and_receipt_to_a_private_repository(
    pusher: Context, export_id: int, hub: small_hub.Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push_id = pushed(pusher, export_id)
    assert (PUSH, push_id) in pusher.bell.rung  # type: ignore[attr-defined]
    node.push(pusher, push_id)
    done = row(pusher, push_id)
    assert (done.status, done.message, done.commit) == ("succeeded", "", small_hub.COMMIT)
    assert done.url == f"{hub.url}/{REPOSITORY}"
    files = hub.repositories[REPOSITORY]
    with pusher.database.reading() as session:
        export = EXPORTS.get(session, export_id)
    assert files.keys() == {file.name for file in export.files} | {"README.md", "receipt.json"}
    assert REPOSITORY not in hub.public and TOKEN in hub.tokens <= {TOKEN, ""}, "files go to signed addresses"
    assert files["README.md"].decode() == done.card
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    key = tmp_path / "installation.pem"
    with TestClient(create_app(pusher.settings), base_url="http://127.0.0.1/api/v1") as api:
        key.write_text(api.get("/receipt-key").json()["pem"])
    receipts_cli.verify(folder, [key])
    assert "The signature is valid" in capsys.readouterr().out


def test_the_hub_reads_the_metadata_of_the_card(pusher: Context, export_id: int) -> None:
    with pusher.database.reading() as session:
        facts = model_cards.of_export(session, export_id)
        text = model_card(facts, REPOSITORY)
    card = ModelCard(text)
    [result] = card.data.eval_results
    assert (card.data.model_name, card.data.pipeline_tag) == ("words", "text-classification")
    assert (result.metric_type, result.metric_value) == ("accuracy", pytest.approx(facts.gate.score, abs=1e-6))
    assert result.dataset_name == facts.dataset.reference
    assert yaml.safe_load(card.data.to_yaml())["library_name"] == "transformers"
    for part in ("95 % interval over items; seeds", "Peak memory", "wall time", "## Limitations", "receipt.json",
                 f'from_pretrained("{REPOSITORY}"', "| `learning_rate` |", "trained with one seed"):  # fmt: skip
        assert part in card.text, part


@pytest.mark.slow
def test_what_has_arrived_is_not_sent_again(pusher: Context, export_id: int, hub: small_hub.Hub) -> None:
    hub.writes["commit"] = 500
    first = pushed(pusher, export_id)
    node.push(pusher, first)
    failed = row(pusher, first)
    assert failed.status == "failed" and "HTTP 500" in failed.message and "are not sent again" in failed.message
    assert hub.repositories[REPOSITORY] == {}, "nothing but a whole commit changes a repository"
    hub.writes.clear()
    second = pushed(pusher, export_id)
    node.push(pusher, second)
    assert row(pusher, second).status == "succeeded"
    assert sum(method == "PUT" for method, _path in hub.asked) == 1, "one large file, sent once"


@pytest.mark.by_day
@pytest.mark.parametrize(
    ("writes", "why"),
    [
        ({"create": 401}, "does not accept the worker's token"),
        ({"create": 403}, "may not write to someone/words"),
        ({"batch": 403}, "may not write to someone/words"),
        ({"commit": 413}, "refuses these files"),
        ({"PUT": 400}, "refuses these files"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_hub_that_refuses_is_named(
    writes: dict[str, int], why: str, pusher: Context, export_id: int, hub: small_hub.Hub
) -> None:
    hub.writes.update(writes)
    push_id = pushed(pusher, export_id)
    node.push(pusher, push_id)
    failed = row(pusher, push_id)
    assert failed.status == "failed" and why in failed.message
    assert not hub.repositories.get(REPOSITORY)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_missing_token_a_public_repository_and_no_network_are_named(
    pusher: Context, export_id: int, hub: small_hub.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.garbled = True
    garbled = pushed(pusher, export_id)
    node.push(pusher, garbled)
    assert "answer cannot be read" in row(pusher, garbled).message
    hub.garbled = False
    hub.repositories[REPOSITORY] = {}
    hub.public.add(REPOSITORY)
    public = pushed(pusher, export_id)
    node.push(pusher, public)
    assert "is public on the hub" in row(pusher, public).message
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = pushed(pusher, export_id)
    node.push(pusher, offline)
    assert "is offline (HF_HUB_OFFLINE)" in row(pusher, offline).message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    without = pushed(pusher, export_id)
    node.push(with_token(pusher, ""), without)
    assert "There is no token for the hub" in row(pusher, without).message


def limited(pusher: Context, *namespaces: str) -> Context:
    return replace(pusher, settings=pusher.settings.model_copy(update={"hub_namespaces": list(namespaces)}))


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_users_push_only_where_an_operator_permits_it_and_only_admins_publish(
    pusher: Context, export_id: int, hub: small_hub.Hub
) -> None:
    with pusher.database.transaction() as session:
        session.add(UserRow(id=1, email="a@example.org", name="A", role_name="member"))
    with pytest.raises(Invalid, match=r"Pushes are off.*VEZNA_HUB_NAMESPACES"):
        pushed(pusher, export_id, ADMIN)
    with pytest.raises(Invalid, match=r"does not push to repositories of someone\. Choose one of acme"):
        pushed(limited(pusher, "acme"), export_id)
    allowed = limited(pusher, "acme", "Someone")
    with pytest.raises(Invalid) as refused:
        pushed(allowed, export_id, MEMBER, private=False)
    assert [error.path for error in refused.value.fields] == ["private"]
    of_member = pushed(allowed, export_id, MEMBER)
    node.push(limited(pusher, "acme"), of_member)
    assert "does not push to repositories of someone" in row(pusher, of_member).message, "the worker has its own list"
    assert hub.repositories == {}
    with pusher.database.transaction() as session:
        session.get_one(UserRow, 1).role_name = "admin"
    of_admin = pushed(allowed, export_id, ADMIN, private=False)
    node.push(allowed, of_admin)
    assert (row(pusher, of_admin).status, hub.public) == ("succeeded", {REPOSITORY})


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_push_replaces_the_earlier_export_and_leaves_other_repositories_alone(
    pusher: Context,
    run_id: int,  # noqa: F811
    export_id: int,
    hub: small_hub.Hub,
) -> None:
    hub.repositories["someone/other"] = {".gitattributes": b"", "model.gguf": b"theirs"}
    refused = pushed(pusher, export_id, repository="someone/other")
    node.push(pusher, refused)
    assert "has files that Vezna did not push" in row(pusher, refused).message
    assert hub.repositories["someone/other"]["model.gguf"] == b"theirs"
    node.push(pusher, pushed(pusher, export_id))
    hub.repositories[REPOSITORY]["figure.png"] = b"of its owner"
    adapter = submit(pusher, run_id, ExportFormat.ADAPTER)
    tasks.export(pusher, adapter)
    node.push(pusher, pushed(pusher, adapter, reason="smaller"))
    with pusher.database.reading() as session:
        files = {file.name for file in EXPORTS.get(session, adapter).files}
    assert "model.safetensors" not in files
    assert hub.repositories[REPOSITORY].keys() == files | {"README.md", "receipt.json", "figure.png"}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_nothing_is_pushed_without_the_receipt_that_the_card_promises(
    pusher: Context, export_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unusable(_settings: Settings) -> None:
        raise Unavailable("The key cannot be read.")

    monkeypatch.setattr(hub_pushes, "signing_key", unusable)
    with pytest.raises(Unavailable, match="key cannot be read"):
        pushed(pusher, export_id)


@pytest.mark.slow
def test_a_cancelled_push_leaves_the_repository_as_it_was(
    pusher: Context, export_id: int, hub: small_hub.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_id = pushed(pusher, export_id)
    progress = PUSHES.progress

    def cancel_once_it_uploads(session: object, claim: hub_pushes.PushClaim, share: float) -> bool:
        if share > node.GATHERED:
            PUSHES.cancel(session, push_id)  # type: ignore[arg-type]
        return progress(session, claim, share)  # type: ignore[arg-type]

    monkeypatch.setattr(PUSHES, "progress", cancel_once_it_uploads)
    node.push(pusher, push_id)
    assert row(pusher, push_id).status == "cancelled"
    assert hub.repositories[REPOSITORY] == {}


def test_a_worker_that_shuts_down_hands_the_push_back_before_its_commit(
    pusher: Context, export_id: int, hub: small_hub.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_id, progress = pushed(pusher, export_id), PUSHES.progress

    def stop_once_it_uploads(session: object, claim: hub_pushes.PushClaim, share: float) -> bool:
        if share > node.GATHERED:
            pusher.one(ExportQueue).stop()
        return progress(session, claim, share)  # type: ignore[arg-type]

    monkeypatch.setattr(PUSHES, "progress", stop_once_it_uploads)
    node.push(pusher, push_id)
    left = row(pusher, push_id)
    assert (left.status, left.attempts) == ("queued", 0), "the attempt does not count"
    assert hub.repositories[REPOSITORY] == {}


def test_an_export_that_has_not_passed_needs_a_reason_which_the_card_shows(pusher: Context, export_id: int) -> None:
    with pusher.database.transaction() as session:
        export = session.get_one(ModelExportRow, export_id)
        export.gate_json = {**(export.gate_json or {}), "outcome": "fail"}
    with pytest.raises(Invalid) as refused:
        pushed(pusher, export_id)
    assert [error.path for error in refused.value.fields] == ["reason"]
    push_id = pushed(pusher, export_id, reason="a demo")
    assert "because: a demo" in row(pusher, push_id).card
    with pytest.raises(Conflict, match="is being pushed to someone/words already"):
        pushed(pusher, export_id, reason="a demo")


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_over_rest_and_on_the_page(
    pusher: Context,
    run_id: int,  # noqa: F811
    export_id: int,
    settings: Settings,
    hub: small_hub.Hub,
) -> None:
    app = create_app(settings)
    app.state.doorbell = pusher.bell
    with TestClient(app, base_url="http://127.0.0.1") as client:
        card = client.get(f"/api/v1/exports/{export_id}/card", params={"repository": REPOSITORY})
        assert card.headers["content-type"].startswith("text/markdown") and REPOSITORY in card.text
        refused = client.post(f"/api/v1/exports/{export_id}/pushes", json={"repository": "no slash"})
        assert refused.status_code == 422
        assert json.dumps(refused.json()).count("Use owner/name") >= 1
        queued = client.post(f"/api/v1/exports/{export_id}/pushes", json={"repository": REPOSITORY})
        assert (queued.status_code, queued.json()["private"]) == (202, True)
        node.push(pusher, queued.json()["id"])
        done = client.get(f"/api/v1/pushes/{queued.json()['id']}", params={"wait": 1}).json()
        assert (done["status"], done["commit"]) == ("succeeded", small_hub.COMMIT)
        assert client.post(f"/api/v1/pushes/{done['id']}/cancel").status_code == 409
        client.headers.update(form_headers(app))
        address = f"/runs/{run_id}/exports/{export_id}/hub"
        page = client.get(address).text
        assert "base_model_relation" not in page and "model-index" in page and "succeeded" in page
        other = client.post(address, data={"repository": "someone/else", "private": "yes", "action": "card"})
        assert "someone/else" in other.text and len(client.get(f"/api/v1/exports/{export_id}/pushes").json()) == 1
        sent = {"repository": "someone/else", "private": "yes", "action": "push", "idempotency_key": "k"}
        for _click in range(2):
            answer = client.post(address, data=sent, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"]) == (303, f"{address}#pushes")
        _first, second = client.get(f"/api/v1/exports/{export_id}/pushes").json()
        assert (second["repository"], second["status"]) == ("someone/else", "queued")
        client.post(f"{address}/{second['id']}/cancel")
        assert client.get(f"/api/v1/pushes/{second['id']}").json()["status"] == "cancelled"
        bad = client.post(address, data={"repository": "x", "action": "push"})
        assert bad.status_code == 422 and "owner/name" in bad.text


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_by_command(
    pusher: Context, export_id: int, settings: Settings, hub: small_hub.Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    app = create_app(settings)
    app.state.doorbell = WorkingBell(task=PUSH, work=partial(node.push, pusher))
    with served(app) as address:
        push_cli.push(export_id, REPOSITORY, card=True, url=address)
        assert f'from_pretrained("{REPOSITORY}"' in capsys.readouterr().out and not hub.repositories
        push_cli.push(export_id, REPOSITORY, url=address)
        said = capsys.readouterr().out
        assert f"Pushed export {export_id} to {hub.url}/{REPOSITORY} (private), commit {small_hub.COMMIT[:12]}." in said
        hub.writes["commit"] = 500
        with pytest.raises(VeznaError, match="HTTP 500"):
            push_cli.push(export_id, REPOSITORY, url=address)
