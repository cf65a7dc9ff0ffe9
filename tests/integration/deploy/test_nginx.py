"""Behind nginx with TLS, by the configuration in `deploy/`: pages, event streams as they happen, large uploads, and
whose address counts. Caddy: test_proxy.py."""

import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import httpx2
import pytest
from fastapi import FastAPI

from app.cli import serve
from app.main import create_app
from app.settings import ROOT, Settings
from tests.support.fakes.fakes import SilentBell
from tests.support.servers.forms import form_headers
from tests.support.servers.running_stack import free_port
from tests.support.servers.served import served

pytestmark = pytest.mark.slow
NAME = "vezna.example"
LARGE = 6 << 20
"""More than a proxy takes by default, and than it keeps in memory."""


@dataclass
class Published:
    """An installation behind a proxy."""

    url: str
    app: FastAPI
    trust: ssl.SSLContext

    def client(self) -> httpx2.Client:
        """A client of the proxy."""
        headers = {"Host": NAME} | form_headers(self.app)
        return httpx2.Client(base_url=self.url, verify=self.trust, headers=headers, timeout=60)


def program(name: str) -> str:
    """A program that not every machine has."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for the name, signed by itself, and its key."""
    made, key = folder / "fullchain.pem", folder / "privkey.pem"
    subject = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1"]
    command = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


def nginx(folder: Path, port: int, upstream: str) -> list[str]:
    """deploy/nginx/vezna.conf with the places of this machine."""
    made, key = certificate(folder)
    text = (ROOT / "deploy" / "nginx" / "vezna.conf").read_text()
    for written, here in {
        "server 127.0.0.1:8000;": f"server {upstream};",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/ssl/vezna/fullchain.pem": str(made),
        "/etc/ssl/vezna/privkey.pem": str(key),
    }.items():
        assert text.count(written) >= 1, written
        text = text.replace(written, here)
    kept = "".join(
        f"{kind}_temp_path {folder / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # workers of another user than the test's could not read its directory
    user = "user root;\n" if os.geteuid() == 0 else ""
    whole = f"{user}pid {folder / 'pid'};\ndaemon off;\nevents {{}}\nhttp {{\naccess_log off;\n{kept}{text}}}\n"
    (folder / "nginx.conf").write_text(whole)
    return [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]


@contextmanager
def published(folder: Path, rows: Path) -> Iterator[Published]:
    """An application that has one of everything, behind an nginx that is ready."""
    shutil.copy(rows, folder / "vezna.sqlite")
    settings = Settings(
        home=folder,
        allowed_hosts=[NAME],
        forwarded_allow_ips=["127.0.0.1"],
        requests_per_minute=100,
        lease_seconds=3600,
    )
    app = create_app(settings)
    app.state.doorbell = SilentBell()
    options = serve.server_options(settings)
    trusting = {name: options[name] for name in ("proxy_headers", "forwarded_allow_ips")}
    with served(app, **trusting) as inner:
        port = free_port()
        command = nginx(folder, port, inner.removeprefix("http://"))
        log = (folder / "proxy.log").open("wb")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            trust = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
            found = Published(f"https://127.0.0.1:{port}", app, trust)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                assert process.poll() is None, (folder / "proxy.log").read_text()
                try:
                    found.client().get("/livez")
                    break
                except httpx2.TransportError:
                    time.sleep(0.1)
            yield found
        finally:
            process.terminate()
            process.wait(20)
            log.close()
    app.state.database.dispose()


@pytest.fixture
def site(tmp_path: Path, filled_file: Path) -> Iterator[Published]:
    """The installation behind nginx."""
    program("nginx")
    with published(tmp_path, filled_file) as found:
        yield found


def test_nginx_publishes_pages_streams_and_uploads(site: Published) -> None:
    with site.client() as client:
        page = client.get("/studies")
        assert page.status_code == 200 and page.headers["strict-transport-security"] == "max-age=31536000"

        body = b"text,label\n" + b"a line of text,yes\n" * (LARGE // 19)
        sent = client.post("/data/files", files={"file": ("large.csv", body)}, follow_redirects=False)
        assert (sent.status_code, sent.headers["location"]) == (303, "/data/uploads/1")

        clone = client.post("/runs/2/clone", headers={"Origin": f"https://{NAME}"}, follow_redirects=False)
        assert clone.status_code == 303  # the browser's own origin, which the proxy has not changed
        assert client.post("/runs/2/clone", headers={"Origin": "https://evil.example"}).status_code == 403

        _a_stream_is_passed_on_as_it_happens(client)
        _a_client_is_known_by_its_own_address(client)


def _a_stream_is_passed_on_as_it_happens(client: httpx2.Client) -> None:
    """The first event of a run that goes on arrives, though the answer has no end."""
    arrived: list[str] = []

    def read() -> None:
        with client.stream("GET", "/api/v1/runs/16/events") as stream:
            for line in stream.iter_lines():
                arrived.append(line)
                if line.startswith("data:"):
                    return

    reader = Thread(target=read, daemon=True)
    reader.start()
    reader.join(60)
    assert not reader.is_alive() and any(line.startswith("data:") for line in arrived), arrived


def _a_client_is_known_by_its_own_address(client: httpx2.Client) -> None:
    """127.0.0.1, which has no limit; were the header of the client believed, it would have one."""
    told = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
    answers = [client.get("/api/v1/workers", headers=told) for _ in range(120)]
    assert {answer.status_code for answer in answers} == {200}
    assert "strict-transport-security" in answers[0].headers
