"""Webhooks on SQLite and PostgreSQL: messages of events, signatures, retries, and what a killed process leaves."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler

import pytest
from alembic import command
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import select, text, update

from app.domain.accounts.audit import AuditFilter
from app.domain.accounts.policy import Role
from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.errors import Conflict, Invalid
from app.domain.failures import FailureCode
from app.domain.models.exports import ExportFormat
from app.domain.runs.status import RunStatus
from app.features.shipping.rules.registry import Registration
from app.features.shipping.services import registry
from app.features.webhooks import queries
from app.features.webhooks import service as webhooks
from app.features.webhooks.rules import RETRY_SECONDS, NewWebhook, WebhookEvent, signed_headers
from app.features.webhooks.tables import WebhookDeliveryRow, WebhookRow
from app.services.outbound.outbound import NotReached, Outbound, Reply
from app.services.ownership import stored_secrets
from app.services.ownership.vault import Vault
from app.services.runs import attempts
from app.services.runs import ended as ended_runs
from app.services.runs import runs as run_service
from app.services.users import audit
from app.settings import Settings
from app.store.database.session import Database
from app.store.runs import queries as runs
from app.store.tables import EndedRunRow, IdempotencyKeyRow, now
from tests.integration.attacks.test_outbound import Server, answer, serving
from tests.integration.workers.test_device_locks import until_waiting
from tests.support.checks.migrations_in_step import config, differences
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import exports as filled_exports
from tests.support.rows.accounts import Installation
from tests.support.rows.factories import LORA, seed_study

EVERY = list(WebhookEvent)
Act = Callable[[BaseHTTPRequestHandler], None]


class Receiver:
    """A server that answers with the statuses in turn, the last one again and again, and verifies each message."""

    def __init__(self) -> None:
        self.statuses, self.secret = [204], ""
        self.got: list[tuple[str, dict[str, object]]] = []

    def act(self, handler: BaseHTTPRequestHandler) -> None:
        assert isinstance(handler.server, Server)
        body, headers = handler.server.seen[-1][2], handler.headers
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        self.got.append((headers["webhook-id"], json.loads(body)))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        answer(b"", status)(handler)


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    """A receiver and its address."""
    found = Receiver()
    with serving(found.act) as server:
        yield found, f"http://127.0.0.1:{server.server_address[1]}/hook"


class Site:
    """An installation with a webhook."""

    def __init__(self, database: Database, settings: Settings, receiver: Receiver, url: str) -> None:
        self.database, self.receiver = database, receiver
        hosts = [url.split("/")[2], "127.0.0.1"]
        self.settings = settings.model_copy(update={"outbound_hosts": hosts})
        self.outbound = Outbound(self.settings)
        with database.transaction() as session:
            vault = Vault(self.settings)
            row, receiver.secret = webhooks.create(session, self.outbound, vault, NewWebhook(url=url, events=EVERY))
            self.id = row.id
            assert receiver.secret not in row.secret and "hook" not in row.url
            assert row.host == url.split("/")[2]

    def send(self) -> int:
        ended_runs.process(self.database, self.settings)
        return webhooks.send_due(self.database, self.outbound, self.settings)

    def later(self) -> None:
        """Let the time of every message come."""
        with self.database.transaction() as session:
            waiting = WebhookDeliveryRow.next_at.is_not(None)
            session.execute(update(WebhookDeliveryRow).where(waiting).values(next_at=now() - timedelta(seconds=1)))

    def test(self, webhook_id: int = 0) -> str:
        with self.database.transaction() as session:
            return webhooks.test(session, webhook_id or self.id).message_id

    def add(self, url: str) -> int:
        """Another webhook."""
        with self.database.transaction() as session:
            new = NewWebhook(url=url, events=EVERY)
            return webhooks.create(session, self.outbound, Vault(self.settings), new)[0].id

    def messages(self, webhook_id: int) -> list[WebhookDeliveryRow]:
        """Messages of a webhook, the oldest first."""
        with self.database.reading() as session:
            found = queries.latest(session, limit=1000)
        return [row for row in reversed(found) if row.webhook_id == webhook_id]

    @property
    def row(self) -> WebhookRow:
        with self.database.reading() as session:
            return queries.get(session, self.id)

    @property
    def message(self) -> WebhookDeliveryRow:
        with self.database.reading() as session:
            return queries.latest(session, limit=1)[0]


@pytest.fixture
def site(database: Database, settings: Settings, receiver: tuple[Receiver, str]) -> Site:
    return Site(database, settings, *receiver)


def test_a_signature_is_that_of_the_specification() -> None:
    """The example of standard-webhooks, spec/standard-webhooks.md and its libraries' tests."""
    headers = signed_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_promotion_is_told_in_the_transaction_that_promotes(site: Site) -> None:
    with site.database.transaction() as session:
        study = seed_study(session, arms=(LORA,), seeds=(0,))
        [run] = runs.of_study(session, study)
        gate = filled_exports.gate(GateOutcome.PASS, 0.0, 0.003)
        export = filled_exports.add(session, run.id, ExportFormat.ADAPTER, "succeeded", gate)
    with pytest.raises(RuntimeError), site.database.transaction() as session:
        registry.register(session, site.settings, "m", Registration(export=export, stage="champion"), None)
        raise RuntimeError
    assert site.send() == 0
    with site.database.transaction() as session:
        registry.register(session, site.settings, "m", Registration(export=export, stage="champion"), None)
    assert (site.send(), site.send()) == (1, 0)
    [(message, body)] = site.receiver.got
    assert message.startswith("msg_") and body["type"] == "model.promoted"
    assert body["data"] == {
        "name": "m",
        "version": 1,
        "export": export,
        "run": run.id,
        "study": study,
        "gate": "pass",
        "by": "",
        "reason": "",
    }
    assert site.message.delivered_at is not None


def test_the_last_run_of_a_study_tells_that_it_has_finished(site: Site, bell: SilentBell) -> None:
    states = {"running": [(LORA.title, 0)], "queued": [(LORA.title, 1), (LORA.title, 2)]}
    with site.database.transaction() as session:
        study = seed_study(session, arms=(LORA,), **states)  # type: ignore[arg-type]
        first, second, third = (run.id for run in runs.of_study(session, study))
    with site.database.transaction() as session:
        failing = runs.get(session, first)
        attempt = attempts.Attempt(first, failing.epoch, failing.worker or "")
        values = {"failure_code": FailureCode.DIVERGED.value, "failure_message": "the loss is NaN"}
        assert attempts.end(session, bell, attempt, RunStatus.FAILED, **values)
        run_service.cancel(session, bell, second)
    site.send()
    assert [body["type"] for _id, body in site.receiver.got] == ["run.failed"]
    assert site.receiver.got[0][1]["data"] == {
        "run": first,
        "study": study,
        "arm": LORA.title,
        "seed": 0,
        "failure": "diverged",
    }
    with site.database.transaction() as session:
        run_service.cancel(session, bell, third)
    site.send()
    site.send()
    assert [body["type"] for _id, body in site.receiver.got] == ["run.failed", "study.finished"]
    data = site.receiver.got[1][1]["data"]
    assert isinstance(data, dict) and data["runs"] == {"failed": 1, "cancelled": 2}


def test_a_failure_is_repeated_with_the_same_id_and_longer_pauses(site: Site) -> None:
    site.receiver.statuses = [500, 503, 200]
    message = site.test()
    pauses = []
    for _ in range(3):
        at = now()
        assert site.send() == 1
        if site.message.next_at:
            pauses.append((site.message.next_at - at).total_seconds())
            assert site.message.message == f"It answered {site.message.last_status}."
        site.later()
    assert [message_id for message_id, _body in site.receiver.got] == [message] * 3
    assert all(pause >= seconds for pause, seconds in zip(pauses, RETRY_SECONDS[:2], strict=True))
    assert (site.message.delivered_at is not None, site.message.attempts, site.row.disabled) == (True, 3, "")
    assert site.send() == 0


def test_after_the_last_failure_it_is_disabled_and_nothing_is_lost(site: Site) -> None:
    site.receiver.statuses = [500]
    site.test()
    for _ in range(len(RETRY_SECONDS) + 1):
        site.later()
        assert site.send() == 1
    assert site.row.disabled == f"A message failed {len(RETRY_SECONDS) + 1} times; the last time: It answered 500."
    second = site.test()
    site.later()
    assert site.send() == 0
    site.receiver.statuses = [200]
    with site.database.transaction() as session:
        assert webhooks.enable(session, site.id) == 2
    assert site.send() == 2
    assert site.receiver.got[-1][0] == second


def test_410_gone_disables_at_once(site: Site) -> None:
    site.receiver.statuses = [410]
    site.test()
    site.send()
    assert site.row.disabled == "It answered 410 Gone, so nothing is sent any more."


def test_an_attempt_whose_process_was_killed_is_repeated(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    message = site.test()

    def killed(*_args: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(webhooks, "_ended", killed)
        site.send()
    assert site.send() == 0, "it may still be under way"
    site.later()
    assert site.send() == 1
    assert [message_id for message_id, _body in site.receiver.got] == [message, message]
    assert site.message.attempts == 2


def test_without_the_key_of_the_secret_the_reason_is_shown(site: Site) -> None:
    site.test()
    (site.settings.home / "secrets.key").unlink()
    site.send()
    assert "secrets.key does not exist. Give this process the key of the web server" in site.message.message
    assert not site.receiver.got and not (site.settings.home / "secrets.key").exists(), "another key would hide it"


def test_secrets_are_encrypted_by_another_key(site: Site) -> None:
    old, new = (site.settings.home / "secrets.key").read_text(), Fernet.generate_key().decode()
    both = site.settings.model_copy(update={"encryption_key": SecretStr(f"{new}\n{old}")})
    assert stored_secrets.rotate(site.database, Vault(both)) == 1
    site.settings = site.settings.model_copy(update={"encryption_key": SecretStr(new)})
    site.test()
    assert site.send() == 1 and len(site.receiver.got) == 1


def test_an_unlisted_address_is_refused_and_one_that_is_no_longer_listed_waits(site: Site) -> None:
    with pytest.raises(Invalid, match=r"Vezna may not reach evil\.example"), site.database.transaction() as session:
        new = NewWebhook(url="https://evil.example/", events=EVERY)
        webhooks.create(session, site.outbound, Vault(site.settings), new)
    site.test()
    assert webhooks.send_due(site.database, Outbound(Settings(outbound_hosts=[])), site.settings) == 0
    assert webhooks.send_due(site.database, Outbound(Settings(outbound_hosts=["other.example"])), site.settings) == 1
    assert "may not reach" in site.message.message and site.message.next_at is not None
    assert not site.receiver.got


def test_the_audit_log_has_hosts_of_webhooks_only(site: Site) -> None:
    """What follows the host is often all that a sender needs to know."""
    site.test()
    with site.database.transaction() as session:
        webhooks.enable(session, site.id)
        webhooks.delete(session, site.id)
    entries = [entry for entry in audit.entries(site.database, AuditFilter(), 0) if entry.action.startswith("webhook.")]
    assert [entry.action.partition(".")[2] for entry in entries] == ["create", "test", "enable", "delete"]
    for entry in entries:
        assert entry.details["host"].startswith("127.0.0.1:") and "/hook" not in str(entry.details)


def test_a_server_that_does_not_answer_holds_up_no_other(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, posts = site.add("http://127.0.0.1/dead"), []
    for _ in range(webhooks.AT_ONCE + 5):
        site.test(dead)
    alive = [site.test() for _ in range(webhooks.AT_ONCE + 5)]

    def post(_self: Outbound, url: str, *_body: object, **_limits: object) -> Reply:
        posts.append(url)
        if url.endswith("/dead"):
            raise NotReached("It did not answer.")
        return Reply(204, b"", "")

    monkeypatch.setattr(Outbound, "post", post)
    assert site.send() == 1 + len(alive)
    assert posts.index("http://127.0.0.1/dead") == 0 and posts.count("http://127.0.0.1/dead") == 1
    assert all(message.delivered_at for message in site.messages(site.id))
    first, *others = site.messages(dead)
    assert (first.attempts, {message.attempts for message in others}) == (1, {0})
    assert first.next_at is not None and {message.next_at for message in others} == {first.next_at}
    site.later()
    assert site.send() == 1 and site.messages(dead)[0].attempts == 2, (
        "the same is tried, after a longer pause each time"
    )


def test_all_that_are_marked_at_once_end_before_they_are_taken_for_lost() -> None:
    assert webhooks.CLAIMED.total_seconds() > webhooks.AT_ONCE * webhooks.SECONDS


def test_after_410_gone_nothing_else_is_sent(site: Site) -> None:
    site.receiver.statuses = [410]
    for _ in range(3):
        site.test()
    assert site.send() == 1 and len(site.receiver.got) == 1
    assert [message.attempts for message in site.messages(site.id)] == [1, 0, 0]


@pytest.mark.parametrize("why", ["disabled", "no host is listed"])
def test_messages_that_wait_are_deleted_after_thirty_days(site: Site, why: str) -> None:
    site.test()
    kept = site.test()
    with site.database.transaction() as session:
        old = update(WebhookDeliveryRow).where(WebhookDeliveryRow.message_id != kept)
        session.execute(old.values(created_at=now() - webhooks.KEPT - timedelta(minutes=1)))
        if why == "disabled":
            webhooks.disable(session, site.id, "It answered 410 Gone.")
    outbound = site.outbound if why == "disabled" else Outbound(Settings(outbound_hosts=[]))
    assert webhooks.send_due(site.database, outbound, site.settings) == 0
    assert [message.message_id for message in site.messages(site.id)] == [kept]


def test_there_are_at_most_so_many_webhooks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MOST_WEBHOOKS", 1)
    with pytest.raises(Conflict, match="There are 1 webhooks, the maximum"):
        site.add("http://127.0.0.1/second")


def test_a_new_webhook_is_not_told_of_runs_that_ended_before_it(site: Site) -> None:
    with site.database.transaction() as session:
        [run] = runs.of_study(session, seed_study(session, arms=(LORA,), seeds=(0,)))
        run.finished_at = now()
        ended_runs.note(session, run.id)
    later = site.add("http://127.0.0.1/later")
    assert site.send() == 1
    assert site.messages(later) == [] and len(site.messages(site.id)) == 1
    with site.database.reading() as session:
        assert session.scalars(select(EndedRunRow)).all() == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_promotion_succeeds_while_a_webhook_is_removed(site: Site) -> None:
    with ThreadPoolExecutor(1) as pool:
        with site.database.transaction() as removing:
            webhooks.delete(removing, site.id)
            told = pool.submit(site.database.write, lambda s: webhooks.tell(s, WebhookEvent.MODEL_PROMOTED, {}))
            until_waiting(site.database)
        told.result()
    assert site.messages(site.id) == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_an_attempt_that_disables_a_webhook_and_one_who_enables_it_wait_for_each_other(site: Site) -> None:
    site.test()
    with site.database.transaction() as session:
        [attempt] = webhooks._begin(session, now())

    def end() -> None:
        with site.database.transaction() as session:
            webhooks._ended(session, attempt, [], webhooks.GONE, "It answered 410.")

    with ThreadPoolExecutor(1) as pool:
        with site.database.transaction() as enabling:
            queries.get(enabling, site.id, lock=True)
            ended = pool.submit(end)
            until_waiting(site.database)
            webhooks.enable(enabling, site.id)
        ended.result()
    assert site.row.disabled == "" and site.message.attempts == 0, "the attempt is one of before"


def test_an_address_that_was_stored_in_plain_is_removed_by_the_migration(site: Site) -> None:
    site.test()
    _migrate(site.database, "0021")
    with site.database.transaction() as session:
        session.execute(text("UPDATE webhooks SET url = 'https://hooks.example.org:8443/services/T0/B0/secret'"))
    _migrate(site.database, "head")
    assert differences(site.database) == []
    assert (site.row.host, site.row.url) == ("hooks.example.org:8443", "") and "add it again" in site.row.disabled
    assert len(site.messages(site.id)) == 1


def _migrate(database: Database, revision: str) -> None:
    with database.engine.connect() as connection:
        act = command.upgrade if revision == "head" else command.downgrade
        act(config(connection), revision)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_over_rest_with_an_admins_token(site: Site) -> None:
    settings = site.settings.model_copy(update={"login": "required"})
    installation = Installation(settings)
    admin, member = (installation.program(role).request for role in (Role.ADMIN, Role.MEMBER))
    path, url = "/api/v1/webhooks", f"http://{site.row.host}/hook"
    created = admin("POST", path, json={"url": url, "events": ["run.failed"]})
    assert (created.status_code, created.headers["cache-control"]) == (201, "no-store")
    new = created.json()
    assert new["secret"].startswith("whsec_") and new["host"] == site.row.host and new["events"] == ["run.failed"]
    listed = admin("GET", path)
    assert [hook["id"] for hook in listed.json()] == [site.id, new["id"]]
    assert "secret" not in listed.text and "/hook" not in listed.text
    told = admin("POST", f"{path}/{new['id']}/test")
    assert told.status_code == 202 and told.json()["message_id"] == site.messages(new["id"])[0].message_id
    with site.database.transaction() as session:
        webhooks.disable(session, new["id"], "It was gone.")
    assert admin("GET", path).json()[1]["disabled"] == "It was gone."
    assert admin("POST", f"{path}/{new['id']}/enable").json()["disabled"] == ""
    refused = admin("POST", path, json={"url": "http://127.0.0.9/hook", "events": ["run.failed"]})
    assert refused.status_code == 422 and refused.json()["errors"][0]["path"] == "url"
    for method, place in (("GET", path), ("POST", path), ("DELETE", f"{path}/{new['id']}")):
        assert member(method, place).status_code == 403
    assert admin("DELETE", f"{path}/{new['id']}").status_code == 204
    assert admin("DELETE", f"{path}/{new['id']}").status_code == 404
    assert [hook["id"] for hook in admin("GET", path).json()] == [site.id]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_request_that_is_sent_again_adds_no_second_webhook(site: Site) -> None:
    """The answer with the secret is stored encrypted, and readable after a change of the key."""
    admin = Installation(site.settings.model_copy(update={"login": "required"})).program(Role.ADMIN).request
    body = {"url": f"http://{site.row.host}/hook", "events": ["run.failed"]}
    sent = {"json": body, "headers": {"Idempotency-Key": "k"}}
    first = admin("POST", "/api/v1/webhooks", **sent)
    with site.database.reading() as session:
        [stored] = session.scalars(select(IdempotencyKeyRow.body))
        assert first.json()["secret"] not in stored
    file = site.settings.home / "secrets.key"
    old, new = file.read_text(), Fernet.generate_key().decode()
    stored_secrets.rotate(
        site.database, Vault(site.settings.model_copy(update={"encryption_key": SecretStr(f"{new}\n{old}")}))
    )
    file.write_text(new)
    again = admin("POST", "/api/v1/webhooks", **sent)
    assert (again.status_code, again.json()) == (201, first.json())
    assert (again.headers["idempotency-replayed"], again.headers["cache-control"]) == ("true", "no-store")
    assert len(admin("GET", "/api/v1/webhooks").json()) == 2
    file.write_text(Fernet.generate_key().decode())
    assert admin("POST", "/api/v1/webhooks", **sent).status_code == 503
