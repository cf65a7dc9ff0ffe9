"""A server at an address that other machines reach: two network namespaces with a cable between them.

Making them needs root on Linux; elsewhere these tests are skipped and say so.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from app.settings import ROOT, Settings
from tests.support.checks.access_table import filled_in, routes

pytestmark = pytest.mark.slow

HOST, GUEST, PORT = "10.203.0.1", "10.203.0.2", 8000
ADMIN, PASSWORD = "admin@example.org", "seven grey herons wait"
CALLER = """
import json, sys, time
import httpx2
calls, address = json.load(sys.stdin), sys.argv[1]
with httpx2.Client(base_url=address, timeout=30) as client:
    for _try in range(600):
        try:
            client.get("/livez")
            break
        except httpx2.TransportError:
            time.sleep(0.1)
    print(json.dumps([
        (answer.status_code, answer.headers.get("location", ""), answer.text)
        for call in calls
        for answer in [client.request(call["method"], call["path"], json=call.get("json"), headers=call.get("headers"))]
    ]))
"""


class Cable:
    """Two namespaces, of the server and of a client on another machine."""

    def __init__(self, name: str) -> None:
        self.server, self.client = f"{name}s", f"{name}c"

    def make(self) -> None:
        """Raises CalledProcessError where that is not allowed."""
        for space in (self.server, self.client):
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", self.server, "link", "add", "vezna0", "type", "veth", "peer", "name", "vezna0", "netns", self.client)
        for space, address in ((self.server, HOST), (self.client, GUEST)):
            _ip("-n", space, "address", "add", f"{address}/24", "dev", "vezna0")
            _ip("-n", space, "link", "set", "vezna0", "up")

    def remove(self) -> None:
        """Both, with the cable."""
        for space in (self.server, self.client):
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)

    def call(self, *calls: dict[str, Any]) -> list[tuple[int, str, str]]:
        """Status, location and text of the answers to requests of the other machine, once the server answers."""
        command = ["ip", "netns", "exec", self.client, sys.executable, "-c", CALLER, f"http://{HOST}:{PORT}"]
        done = subprocess.run(command, input=json.dumps(calls), capture_output=True, text=True, timeout=120, check=True)
        return [(status, location, text) for status, location, text in json.loads(done.stdout)]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True)


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("two network namespaces need Linux, the command ip (Debian: iproute2) and root")
    made = Cable(f"vz{os.getpid()}")
    try:
        made.make()
    except subprocess.CalledProcessError as error:
        made.remove()
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.decode().strip()}")
    yield made
    made.remove()


def command(cable: Cable, home: Path, *arguments: str, **settings: str) -> tuple[list[str], dict[str, str]]:
    """A command of `vezna` in the server's namespace, and its environment: nothing says that login is required."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VEZNA_")}
    environment |= {"VEZNA_HOME": str(home), "VEZNA_HOST": HOST, "VEZNA_PORT": str(PORT), "VEZNA_ALLOWED_HOSTS": HOST}
    return ["ip", "netns", "exec", cable.server, sys.executable, "-m", "app.cli", *arguments], environment | settings


@pytest.fixture
def server(cable: Cable, tmp_path: Path, filled_file: Path) -> Iterator[None]:
    """`vezna web` at an address that is not loopback."""
    shutil.copy(filled_file, tmp_path / "vezna.sqlite")
    (tmp_path / "password").write_text(PASSWORD)
    admin = {"VEZNA_ADMIN_EMAIL": ADMIN, "VEZNA_ADMIN_PASSWORD_FILE": str(tmp_path / "password")}
    arguments, environment = command(cable, tmp_path, "web", **admin)
    running = subprocess.Popen(arguments, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    yield
    running.terminate()
    try:
        running.wait(60)
    except subprocess.TimeoutExpired:
        running.kill()
        raise


@pytest.mark.nightly
@pytest.mark.usefixtures("server")
def test_another_machine_is_refused_everything_without_login_and_works_with_a_token(
    cable: Cable, tmp_path: Path
) -> None:
    app = create_app(Settings(home=tmp_path, login="required"))
    walked = [(method, filled_in(path)) for method, path in routes(app) if path != "/static"]
    app.state.database.dispose()
    assert len(walked) > 150
    answers = cable.call(*({"method": method, "path": path} for method, path in walked))
    admitted = {
        f"{method} {path}"
        for (method, path), (status, location, _text) in zip(walked, answers, strict=True)
        if status != 401 and not (status == 303 and location.startswith("/login"))
    }
    assert admitted == {
        "GET /livez",
        "GET /readyz",
        "GET /login",
        "POST /login",
        "POST /login/code",
        "GET /login/openid",
        "GET /login/openid/back",
        "POST /language",
        "GET /first-admin/1",
        "POST /first-admin/1",
        "GET /password/1",
        "POST /password/1",
        "POST /api/v1/login",
        "GET /api/v1/receipt-key",
    }
    body = {"email": ADMIN, "password": PASSWORD, "token": {"name": "other machine"}}
    [(status, _location, text)] = cable.call({"method": "POST", "path": "/api/v1/login", "json": body})
    assert status == 201
    headers = {"authorization": f"Bearer {json.loads(text)['token']}"}
    [(status, _location, text)] = cable.call({"method": "GET", "path": "/api/v1/studies", "headers": headers})
    assert status == 200 and json.loads(text)["items"]


@pytest.mark.parametrize("start", ["web", "up"])
def test_a_server_without_login_refuses_to_start_there(cable: Cable, tmp_path: Path, start: str) -> None:
    arguments, environment = command(cable, tmp_path, start, VEZNA_LOGIN="single-user")
    done = subprocess.run(
        arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert f"VEZNA_LOGIN=single-user would open VEZNA_HOST={HOST} to the network without login" in done.stderr
