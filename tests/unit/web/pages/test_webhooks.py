"""The page of webhooks: who may see it, a secret that is shown once, and why one is disabled; and the command line."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.domain.accounts.policy import Role
from app.domain.errors import Invalid
from app.features.webhooks import commands as cli
from app.features.webhooks import queries
from app.features.webhooks import service as webhooks
from app.main import create_app
from app.settings import Settings
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.accounts import Installation
from tests.support.servers.forms import form_headers
from tests.unit.web.conftest import database_of

HOOK = "https://hooks.example.org/vezna"


@pytest.fixture
def client(empty: TestClient, tmp_path: Path) -> TestClient:
    """A client of a server that may reach hooks.example.org."""
    database_of(empty).dispose()
    app = create_app(Settings(home=tmp_path, allowed_hosts=["testserver"], outbound_hosts=["hooks.example.org"]))
    app.state.doorbell = SilentBell()
    return TestClient(app, headers=form_headers(app), follow_redirects=False)


def test_a_secret_is_shown_once_and_stored_encrypted(client: TestClient) -> None:
    answer = client.post("/webhooks", data={"url": HOOK, "events": ["model.promoted", "run.failed"]})
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    [secret] = re.findall(r'<code id="new-secret">(whsec_[\w+/=]+)</code>', answer.text)
    shown = client.get("/webhooks").text
    assert "hooks.example.org" in shown and "enabled" in shown and secret not in shown and HOOK not in shown
    assert "A message that is not received is deleted after 30 days." in shown
    with database_of(client).reading() as session:
        [row] = queries.all_of_them(session)
        assert row.event_names == ["model.promoted", "run.failed"] and secret not in row.secret
    assert client.post(f"/webhooks/{row.id}/test").status_code == 303
    assert "webhook.test" in client.get("/webhooks").text and "waiting" in client.get("/webhooks").text
    with database_of(client).transaction() as session:
        webhooks.disable(session, row.id, "It answered 410 Gone.")
    assert "It answered 410 Gone." in client.get("/webhooks").text
    assert client.post(f"/webhooks/{row.id}/enable").status_code == 303
    assert "410" not in client.get("/webhooks").text
    assert client.post(f"/webhooks/{row.id}/remove").status_code == 303
    assert (
        "<strong>hooks.example.org" not in client.get("/webhooks").text
        and client.post(f"/webhooks/{row.id}/test").status_code == 404
    )


@pytest.mark.parametrize(
    ("url", "events", "field", "why"),
    [
        ("https://evil.example/", ["run.failed"], "url", "may not reach evil.example"),
        (HOOK, ["run.started"], "events", "Must be one of"),
    ],
)
def test_a_mistake_is_named_at_its_field(client: TestClient, url: str, events: list[str], field: str, why: str) -> None:
    answer = client.post("/webhooks", data={"url": url, "events": events})
    assert answer.status_code == 422 and f'href="#{field}"' in answer.text and why in answer.text
    with database_of(client).reading() as session:
        assert not queries.all_of_them(session)


def test_only_admins_see_it(tmp_path: Path, empty: TestClient) -> None:
    installation = Installation(Settings(home=tmp_path, login="required"))
    for role in Role:
        assert installation.browser(role).get("/webhooks").status_code == (200 if role is Role.ADMIN else 403)
    installation.database.dispose()


def test_the_command_line_adds_lists_and_removes(
    empty: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VEZNA_HOME", str(tmp_path))
    monkeypatch.setenv("VEZNA_OUTBOUND_HOSTS", "hooks.example.org")
    cli.add(HOOK)
    assert re.search(r"^whsec_[\w+/=]{44}$", capsys.readouterr().out, re.MULTILINE)
    cli.test(1)
    cli.deliveries()
    assert "webhook.test" in capsys.readouterr().out
    cli.enable(1)
    assert "messages that waited: 1" in capsys.readouterr().out
    cli.list_all(as_json=True)
    listed = capsys.readouterr().out
    assert '"disabled": ""' in listed and '"host": "hooks.example.org"' in listed and HOOK not in listed
    cli.remove(1)
    cli.list_all()
    assert "hooks.example.org" not in capsys.readouterr().out
    with pytest.raises(Invalid, match="may not reach"):
        cli.add("https://evil.example/")
