"""The threats of docs/security.md, attempted against a running server that requires a login."""

import http.client
import json
import pickle
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx2
import pytest
from kombu import serialization
from kombu.exceptions import ContentDisallowed

from app.broker.queue import celery_app
from app.domain.accounts.policy import Role
from app.features.webhooks import queries as webhooks
from app.settings import Settings
from app.store.files.files import Files
from app.store.users import queries as users
from tests.support.ingested import context
from tests.support.rows.accounts import PASSWORD, Installation
from tests.support.servers.forms import form_token
from tests.support.servers.served import served
from worker.ingest import tasks
from worker.ingest.host import IngestQueue

RUN = {"base_model": "all-MiniLM-L6-v2", "dataset": "bbc-headlines", "method": {"kind": "full"}}


@dataclass(frozen=True)
class Target:
    """A running server, and a folder in which an attack would leave a trace."""

    url: str
    installation: Installation
    folder: Path

    def client(self, role: Role | None = None) -> httpx2.Client:
        """A program, with a token of a role."""
        headers = {} if role is None else {"authorization": f"Bearer {self.installation.token(role)}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60)

    def raw(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """The answer to a request whose path no client has tidied up."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in ({"content-length": str(len(body))} | headers).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    @property
    def trace(self) -> Path:
        """A file that only executed code would make."""
        return self.folder / "executed"

    @property
    def runs(self) -> int:
        """The number of runs."""
        with sqlite3.connect(self.folder / "vezna.sqlite") as connection:
            return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("target")
    (folder / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    (folder / "roots").mkdir()
    roots = [folder / "roots"]
    made = Installation(Settings(home=folder, login="required", model_roots=roots, data_roots=roots))
    with served(made.app) as url:
        yield Target(url, made, folder)
    made.database.dispose()


def test_1_a_job_without_login(target: Target) -> None:
    before, client = target.runs, target.client()
    for path, body in (
        ("/api/v1/runs", RUN),
        ("/api/v1/studies", {}),
        ("/api/v1/models", {"name": "x", "source": "hub", "location": "a/b"}),
        ("/api/v1/uploads/sources", {"source": "hub", "location": "a/b"}),
        ("/api/v1/runs/2/exports", {"format": "merged"}),
    ):
        assert client.post(path, json=body).status_code == 401, path
        forged = {"authorization": f"Bearer vezna_{'A' * 43}", "x-forwarded-for": "127.0.0.1"}
        assert client.post(path, json=body, headers=forged).status_code == 401, path
    assert client.get("/api/v1/runs").status_code == 401 and target.runs == before


def test_2_pickled_data_and_weights_are_not_unpickled(target: Target) -> None:
    """Weights are refused by a worker: `tests/unit/worker/engine/models/test_load.py`."""
    payload = pickle.dumps(_Bomb(target.trace))
    client = target.client(Role.MEMBER)
    for name in ("data.pkl", "data.pt", "data.csv", "data.parquet", "data.npy"):
        answer = client.put(f"/api/v1/uploads/files/{name}", content=payload)
        assert answer.status_code in (202, 422), (name, answer.text)  # what is accepted is read as a table, by a worker
    answer = client.post("/api/v1/imports", content=payload, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert not target.trace.exists()


class _Bomb:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> object:
        return Path.touch, (self.trace,)


def test_3_a_model_cannot_ask_for_its_own_code(target: Target) -> None:
    """A worker ignores `auto_map` (`test_load.py`, `test_hub.py`); a request has no way to allow it."""
    client = target.client(Role.MEMBER)
    for body in (
        RUN | {"trust_remote_code": True},
        RUN | {"method": {"kind": "full", "trust_remote_code": True}},
        RUN | {"training": {"trust_remote_code": True}},
    ):
        answer = client.post("/api/v1/runs", json=body)
        assert answer.status_code == 422 and "trust_remote_code" in answer.text
    model = {"name": "own", "source": "hub", "location": "a/b", "trust_remote_code": True}
    assert client.post("/api/v1/models", json=model).status_code == 422


def test_4_a_name_is_no_template(target: Target) -> None:
    """Chat templates run in a sandbox: `tests/unit/worker/engine/tasks/test_causal_lm.py`."""
    attack = "{{ cycler.__init__.__globals__.os.mkdir('" + str(target.trace) + "') }}{{ 7 * 191 }}"
    client = target.client(Role.MEMBER)
    assert client.patch("/api/v1/runs/2", json={"note": attack, "tags": ["{{7*191}}"]}).status_code == 200
    for page in ("/runs/2/notes", f"/nowhere/{quote(attack)}", "/runs?filter=" + quote(attack)):
        text = client.get(page, headers={"accept": "text/html"}).text
        assert "1337" not in text, page
    assert not target.trace.exists()


@pytest.mark.parametrize("up", ["../", "..%2f", "%2e%2e/", "..%5c", "....//", "%252e%252e%252f"])
def test_5_a_path_leads_nowhere_else(target: Target, up: str) -> None:
    token = f"Bearer {target.installation.token(Role.MEMBER)}"
    for path in (f"/static/{up * 8}etc/passwd", f"/static/js/{up * 3}vezna.sqlite", f"/models/{up * 8}etc/passwd"):
        status, body = target.raw("GET", path, authorization=token)
        assert status in (400, 404), path
        assert b"root:" not in body and b"SQLite format" not in body, path
    name = f"/api/v1/uploads/files/{up * 3}stolen.csv"
    target.raw("PUT", name, b"text,label\na,b\n", authorization=token)
    assert not list(target.folder.parent.rglob("stolen.csv"))
    client = target.client(Role.MEMBER)
    for location in ("/etc", f"{target.folder}/roots/../", f"{target.folder}/roots/x/../..", str(target.folder)):
        body = {"name": "x", "source": "directory", "location": location}
        assert client.post("/api/v1/models", json=body).status_code == 422
        source = {"source": "directory", "location": location}
        assert client.post("/api/v1/uploads/sources", json=source).status_code == 422


@pytest.mark.slow
def test_6_a_name_is_no_command(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not where a worker reads what was uploaded under it."""
    monkeypatch.chdir(target.folder)
    client, uploads = target.client(Role.MEMBER), []
    for attack in ("; touch executed #", "$(touch executed)", "`touch executed`"):
        command = f"cat {attack}.csv"
        subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        target.trace.unlink()  # a shell would have made it
        name = quote(f"{attack}.csv", safe="")
        answer = client.put(f"/api/v1/uploads/files/{name}", content=f"text,label\n{attack},b\nc,d\n".encode())
        assert answer.status_code == 202, answer.text
        uploads.append(answer.json()["id"])
    settings, database = target.installation.settings, target.installation.database
    worker = context(settings, database, Files(settings.files), IngestQueue())
    for upload_id in uploads:
        tasks.read(worker, upload_id)
        read = client.get(f"/api/v1/uploads/{upload_id}").json()
        assert (read["status"], read["message"]) == ("read", "")
    for attack in (f"; touch {target.trace}", f"$(touch {target.trace})", f"`touch {target.trace}`", "--help", "-o x"):
        for answer in (
            client.post("/api/v1/models", json={"name": attack, "source": "hub", "location": attack}),
            client.post("/api/v1/uploads/sources", json={"source": "hub", "location": attack}),
            client.put(f"/api/v1/uploads/files/{quote(attack, safe='')}.csv", content=b"text,label\na,b\nc,d\n"),
            client.get(f"/studies/1/charts/{quote(attack, safe='')}.svg"),
        ):
            assert answer.status_code in (202, 400, 404, 422), (attack, answer.url, answer.text)
    assert not target.trace.exists()


def test_7_the_server_calls_no_address_of_a_request(target: Target) -> None:
    """Those of webhooks only where an operator lists the host: `tests/integration/attacks/test_outbound.py`."""
    client, admin = target.client(Role.MEMBER), target.installation.browser(Role.ADMIN)
    token = form_token(admin.get("/webhooks"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for location in (
            f"http://127.0.0.1:{port}/x",
            f"http://127.0.0.1:{port}/a/b.git",
            "http://169.254.169.254/latest/meta-data/",
            "file:///etc/passwd",
            f"127.0.0.1:{port}/x",
        ):
            for path, body in (
                ("/api/v1/uploads/sources", {"source": "hub", "location": location}),
                ("/api/v1/models", {"name": "x", "source": "hub", "location": location}),
            ):
                assert client.post(path, json=body).status_code == 422, (path, location)
            hook = {"url": location, "events": "run.failed", "csrf_token": token}
            refused = admin.post("/webhooks", data=hook)
            assert refused.status_code == 422 and 'href="#url"' in refused.text, location
        with target.installation.database.reading() as session:
            assert not webhooks.any_exists(session)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_8_another_site_or_name_reaches_nothing(target: Target) -> None:
    browser = target.installation.browser(Role.ADMIN)
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    form, before = b"disabled=true", target.runs
    path = f"/users/{target.installation.ids[Role.VIEWER]}/disabled"
    kind = {"content-type": "application/x-www-form-urlencoded"}
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "same-origin"},  # but without the token of a form
        {},
    ):
        assert target.raw("POST", path, form, cookie=cookie, **kind, **headers)[0] == 403, headers
    body = json.dumps(RUN).encode()
    assert target.raw("POST", "/api/v1/runs", body, cookie=cookie)[0] == 403
    assert target.client().get("/livez", headers={"host": "rebound.example"}).status_code == 400
    assert target.runs == before
    with target.installation.database.reading() as session:
        assert not users.get(session, target.installation.ids[Role.VIEWER]).disabled


@pytest.mark.nightly
def test_9_there_is_no_default_account_and_guessing_is_limited(target: Target) -> None:
    client, statuses = target.client(), []
    for email in ("admin", "root@localhost", "vezna@example.org"):
        for password in ("admin", PASSWORD):
            body = {"email": email, "password": password, "token": {"name": "x"}}
            statuses.append(client.post("/api/v1/login", json=body).status_code)
    assert set(statuses) == {401}
    for number in range(11):
        body = {"email": "admin@example.org", "password": f"guess {number}", "token": {"name": "x"}}
        statuses.append(client.post("/api/v1/login", json=body).status_code)
    assert statuses[-1] == 429 and statuses[-2] == 401


def test_10_a_filter_is_not_evaluated(target: Target) -> None:
    client = target.client(Role.VIEWER)
    for attack in (
        f"__import__('os').mkdir('{target.trace}')",
        f"score > 0 and open('{target.trace}', 'w')",
        "score > (1).__class__.__bases__[0].__subclasses__()",
        "score > 0; drop table runs",
        "note = '' union select password_hash from users",
    ):
        answer = client.get("/api/v1/runs", params={"filter": attack})
        assert answer.status_code == 422, attack
    assert not target.trace.exists() and target.runs > 0


def test_11_a_parser_is_not_exhausted(target: Target) -> None:
    token = f"Bearer {target.installation.token(Role.MEMBER)}"
    kind = {"content-type": "application/json", "authorization": token}
    assert target.raw("POST", "/api/v1/runs", b" " * (2 << 20), **kind)[0] == 413
    assert target.raw("POST", "/api/v1/runs", b"[" * 500_000, **kind)[0] in (400, 422)
    assert target.raw("POST", "/api/v1/runs", b'{"a":' * 100_000, **kind)[0] in (400, 422)
    many = "&".join(f"f{number}=1" for number in range(20_000)).encode()
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert target.raw("POST", "/login", many, **form)[0] == 400
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    kind = {"content-type": "multipart/form-data; boundary=x", "authorization": token}
    assert target.raw("POST", "/api/v1/uploads", part * 5_000 + b"--x--", **kind)[0] in (400, 422)
    ranges = "bytes=" + ",".join(f"{number}-{number}" for number in range(1_000))
    assert target.raw("GET", "/static/js/keys.js", range=ranges)[0] in (200, 400, 416, 431)


def test_12_a_stored_text_is_neither_script_nor_formula(target: Target) -> None:
    member, attack = target.client(Role.MEMBER), '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    formula = '=HYPERLINK("http://evil.example","x")'
    assert member.patch("/api/v1/runs/2", json={"note": attack}).status_code == 200
    assert member.patch("/api/v1/runs/16", json={"note": formula}).status_code == 200
    assert member.patch("/api/v1/studies/1", json={"note": attack}).status_code == 200
    admin = target.client(Role.ADMIN)
    for page in (
        "/runs/2",
        "/runs/2/notes",
        "/studies/1",
        "/studies/1/report.html",
        "/runs?columns=note,tag",
        "/audit",
    ):
        answer = admin.get(page)
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text, page
        assert "unsafe" not in answer.headers["content-security-policy"], page
    table = admin.get("/runs.csv?columns=note,tag").text
    assert all(not cell.lstrip('"').startswith("=") for line in table.splitlines() for cell in line.split(","))


def test_13_a_message_of_the_broker_is_no_pickle(target: Target) -> None:
    celery = celery_app(target.installation.settings)
    payload = pickle.dumps(_Bomb(target.trace))
    with pytest.raises(ContentDisallowed):
        serialization.loads(payload, "application/x-python-serialize", "binary", accept=celery.conf.accept_content)
    assert celery.conf.result_backend is None and not target.trace.exists()


def test_14_roles_hold_and_what_belongs_to_others_stays(target: Target) -> None:
    """What is private to other users: `tests/integration/users/test_owners.py`."""
    before, viewer = target.runs, target.client(Role.VIEWER)
    for method, path in (("DELETE", "/api/v1/studies/1"), ("PATCH", "/api/v1/runs/2"), ("POST", "/api/v1/runs")):
        assert viewer.request(method, path, json={}).status_code == 403, path
    member = target.client(Role.MEMBER)
    for path in ("/users", "/audit", "/api/v1/audit", "/account"):
        assert member.get(path).status_code == 403, path
    assert target.runs == before
