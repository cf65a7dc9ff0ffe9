"""`deploy/compose.proxy.yml` with Debian's Caddy: TLS, the login, large uploads, streams, addresses of pages."""

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from app.cli.client import Client
from app.domain.accounts.policy import Role
from app.domain.methods import FullSpec
from app.domain.runs.spec import RunSpec
from app.services.runs import runs as run_service
from app.services.users import passwords
from app.settings import ROOT, Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.users import queries as users
from tests.conftest import register_tiny
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.accounts import PASSWORD, Installation
from tests.support.servers.forms import form_token
from tests.support.servers.running_stack import free_port
from tests.support.servers.served import served

pytestmark = pytest.mark.slow

NAME = "vezna.example"
SIZE = 48 << 20


class Proxy(NamedTuple):
    """A running proxy before a running server."""

    port: int
    plain_port: int
    certificate: Path
    installation: Installation
    files: Files

    @property
    def database(self) -> Database:
        """That of the server."""
        return self.installation.database

    def visitor(self) -> httpx2.Client:
        """A browser that knows the proxy's own authority."""
        context = ssl.create_default_context(cafile=self.certificate)
        return httpx2.Client(base_url=f"https://localhost:{self.port}", verify=context, timeout=60)

    def client(self) -> httpx2.Client:
        """A program with an API token."""
        client = self.visitor()
        client.headers["authorization"] = f"Bearer {self.installation.token(Role.MEMBER)}"
        return client


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[Proxy]:
    """The proxy by its file in deploy/, but for ports, the folder of certificates, and the address of the server."""
    caddy = shutil.which("caddy")
    if not caddy:
        pytest.skip("caddy is not installed (Debian: apt-get install caddy)")
    folder = tmp_path_factory.mktemp("proxy")
    shutil.copy(migrated_file, folder / "vezna.sqlite")
    settings = Settings(home=folder, login="required", allowed_hosts=[NAME])
    installation = Installation(settings)
    register_tiny(installation.database, Files(settings.files))
    with installation.database.transaction() as session:
        users.get(session, installation.ids[Role.MEMBER]).password_hash = passwords.accepted(PASSWORD)
    port, plain_port = free_port(), free_port()
    with served(installation.app, forwarded_allow_ips=["127.0.0.1"]) as address:
        options = f"{{\nadmin off\nlocal_certs\nskip_install_trust\nhttp_port {plain_port}\nhttps_port {port}\n}}\n"
        site = (ROOT / "deploy" / "caddy" / "Caddyfile").read_text()
        assert "web:8000" in site
        (folder / "Caddyfile").write_text(options + site.replace("web:8000", address.removeprefix("http://")))
        variables = {"VEZNA_DOMAIN": f"localhost, {NAME}"}
        places = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
        with (folder / "log").open("wb") as log:
            command = [caddy, "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]
            process = subprocess.Popen(command, env=os.environ | variables | places, stdout=log, stderr=log)
        try:
            certificate = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
            found = Proxy(port, plain_port, certificate, installation, Files(settings.files))
            deadline = time.monotonic() + 60
            while not _answers(found):
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
            yield found
        finally:
            process.terminate()
            process.wait(20)
    installation.database.dispose()


def _answers(proxy: Proxy) -> bool:
    try:
        return proxy.visitor().get("/livez").status_code == 200
    except (httpx2.TransportError, OSError):
        return False


def test_it_speaks_tls_and_the_server_requires_a_login(proxy: Proxy) -> None:
    plain = httpx2.get(f"http://localhost:{proxy.plain_port}/runs", follow_redirects=False)
    assert plain.status_code in (301, 302, 308) and plain.headers["location"].startswith("https://localhost")
    with proxy.client() as known, proxy.visitor() as unknown:
        assert unknown.get("/api/v1/runs").status_code == 401
        refused = unknown.get("/runs")
        assert (refused.status_code, refused.headers["location"]) == (303, "/login?next=%2Fruns")
        answer = known.get("/runs")
        assert answer.status_code == 200 and answer.headers["content-encoding"] == "gzip"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_it_publishes_neither_readiness_nor_metrics(proxy: Proxy) -> None:
    with proxy.client() as known:
        assert [known.get(path).status_code for path in ("/livez", "/readyz", "/metrics")] == [200, 404, 404]


def test_a_browser_logs_in_with_a_cookie_that_goes_by_tls_alone(proxy: Proxy) -> None:
    with proxy.visitor() as browser:
        browser.headers["Origin"] = f"https://localhost:{proxy.port}"
        form = {"email": "member@example.org", "password": PASSWORD, "csrf_token": form_token(browser.get("/login"))}
        answer = browser.post("/login", data=form)
        assert answer.status_code == 303, answer.text
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-vezna_session=") and cookie.endswith(
            "; HttpOnly; Max-Age=1209600; Path=/; SameSite=lax; Secure"
        )
        page = browser.get("/account")
        assert page.status_code == 200 and "127.0.0.1" in page.text
        assert browser.post("/logout", data={"csrf_token": form_token(page)}).headers["location"] == "/login"
        assert browser.get("/account").status_code == 303


def test_the_server_hears_the_name_and_that_it_was_called_by_tls(proxy: Proxy) -> None:
    with proxy.database.transaction() as session:
        run = run_service.submit(session, SilentBell(), RunSpec(base_model="tiny", dataset="small", method=FullSpec()))
    with proxy.client() as client:
        named = {"Host": NAME}
        page = client.get(f"/runs/{run.id}?spec=curl", headers=named, extensions={"sni_hostname": NAME})
        assert page.status_code == 200, page.text
        assert page.headers["strict-transport-security"] == "max-age=31536000"
        assert f"https://{NAME}/api/v1/runs" in page.text
        written = client.post(
            "/api/v1/runs",
            headers=named | {"Origin": f"https://{NAME}"},
            json={"base_model": "tiny", "dataset": "small", "method": {"kind": "full"}},
            extensions={"sni_hostname": NAME},
        )
        assert written.status_code == 202, written.text


def test_a_large_upload_passes(proxy: Proxy) -> None:
    line = b"a text of some words,yes\n"
    data = b"text,label\n" + line * (SIZE // len(line))
    with proxy.client() as client:
        answer = client.post("/api/v1/uploads", files=[("file", ("words.csv", data))])
        assert answer.status_code == 202, answer.text
        assert answer.json()["bytes"] == len(data)
    [stored] = proxy.files.names("uploads")
    assert hashlib.sha256(b"".join(proxy.files.chunks(stored))).hexdigest() == hashlib.sha256(data).hexdigest()


def test_an_event_passes_while_its_stream_is_open(proxy: Proxy) -> None:
    with proxy.database.transaction() as session:
        spec = RunSpec(base_model="tiny", dataset="small", method=FullSpec())
        run_id = run_service.submit(session, SilentBell(), spec).id
    stream = f"/api/v1/runs/{run_id}/events"
    with proxy.client() as client, client.stream("GET", stream, headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        data = (line.removeprefix("data:") for line in answer.iter_lines() if line.startswith("data:"))
        statuses = (event["status"] for event in map(json.loads, data) if "status" in event)
        assert next(statuses) == "queued"
        with proxy.database.transaction() as session:
            run_service.cancel(session, SilentBell(), run_id)
        assert next(statuses) == "cancelled"


def test_the_command_line_sends_its_token(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.certificate))
    client = Client(f"https://localhost:{proxy.port}", proxy.installation.token(Role.VIEWER))
    assert client.get("/models/tiny")["status"] == "ready"
