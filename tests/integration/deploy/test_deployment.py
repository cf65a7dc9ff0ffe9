"""A run, a stop and the sample, by the very commands of docker-compose.yml."""

import hashlib
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx2
import psutil
import psycopg
import pytest
import redis
from psycopg import sql

from app.services.data import datasets
from app.store.database.session import Database
from app.store.files.files import Files
from tests.integration.deploy.services import POSTGRES, Deployment
from tests.support.servers.forms import form_token
from tests.support.tiny import texts as tiny

ADMIN, PASSWORD = "admin@example.org", "marked words of the first admin"
SECRETS = {
    "postgres_password": "marked-password-of-postgres",
    "redis_password": "marked-password-of-redis",
    "encryption_key": "marked-key-of-stored-secrets-00000000000000=",
    "hub_token": "hf_marked-token-of-the-hub",
    "admin_password": PASSWORD,
}


class Api:
    """The REST API of a deployment."""

    def __init__(self, found: Deployment) -> None:
        self.http = httpx2.Client(base_url=f"{found.url}/api/v1", timeout=30.0, headers=found.headers)

    def get(self, path: str) -> Any:
        """GET; the JSON."""
        answer = self.http.get(path)
        assert answer.is_success, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None) -> Any:
        """POST; the JSON."""
        answer = self.http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def run(self, run_id: int, until: set[str], seconds: float, step: int = 0) -> Any:
        """A run once it is in one of these states and at this step."""
        deadline = monotonic() + seconds
        while True:
            run = self.get(f"/runs/{run_id}")
            if run["status"] in until and run["step"] >= step:
                return run
            assert monotonic() < deadline, f"run {run_id} is {run['status']} at step {run['step']}: {run['failure']}"
            sleep(0.2)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Everything that `docker compose up` starts, healthy; a tiny base model and a small dataset are known."""
    found = Deployment(tmp_path_factory.mktemp("deployment"), SECRETS)
    tiny.save_model(found.folder / "models" / "tiny")
    for service in ("worker-cpu", "control"):  # as docs/deployment.md adds it
        found.services[service]["environment"]["VEZNA_HUB_TOKEN_FILE"] = "/run/secrets/hub_token"
    first_admin = {"VEZNA_ADMIN_EMAIL": ADMIN, "VEZNA_ADMIN_PASSWORD_FILE": "/run/secrets/admin_password"}
    found.services["web"]["environment"] |= first_admin
    try:
        found.start_redis()
        found.start_postgres()
        _servers_answer(found)
        found.run("migrate")
        for service in ("web", "worker-cpu", "control"):
            found.start(service)
        _register_dataset(found)
        found.healthy("web")
        found.healthy("worker-cpu")
        found.healthy("control")
        found.token = found.run("web", ["vezna", "user", "token", ADMIN]).strip()
        yield found
    finally:
        found.stop_all()


def _servers_answer(found: Deployment) -> None:
    """Both servers answer by TCP to those who know the password, and Redis to nobody else."""
    where = ["--host=127.0.0.1", f"--port={found.ports['postgres']}"]
    program, *check = found.services["postgres"]["healthcheck"]["test"][1:]
    assert program == "pg_isready" and "--host=127.0.0.1" in check
    found.run("migrate", [str(POSTGRES / program), *check, *where])
    stranger = redis.Redis(port=found.ports["redis"])
    with pytest.raises(redis.AuthenticationError):
        stranger.ping()
    known = redis.Redis(port=found.ports["redis"], password=SECRETS["redis_password"])
    assert known.config_get("appendonly")["appendonly"] == "yes"
    assert known.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def _register_dataset(found: Deployment) -> None:
    environment = found.environment("web")
    database = Database(found.database_url)
    with database.transaction() as session:
        datasets.register(
            session,
            Files(environment["VEZNA_FILES_URL"]),
            name="words",
            title="Words",
            form="labelled",
            labels=tiny.LABELS,
            rows=tiny.rows(),
        )
    database.engine.dispose()


def _register_model(api: Api, found: Deployment) -> Any:
    model = api.post("/models", {"name": "tiny", "source": "directory", "location": found.here("/models/tiny")})
    deadline = monotonic() + 300
    while model["status"] == "inspecting" and monotonic() < deadline:
        sleep(0.3)
        model = api.get("/models/tiny")
    return model


def _spec(**training: object) -> dict[str, Any]:
    method = {"kind": "lora", "r": 4, "target_modules": ["query", "value"]}
    return {"base_model": "tiny", "dataset": "words", "method": method, "training": {"max_length": 16, **training}}


@pytest.mark.nightly
def test_the_server_is_closed_and_its_first_admin_logs_in(deployment: Deployment) -> None:
    for path in ("/studies", "/api/v1/runs", "/metrics"):
        assert httpx2.get(deployment.url + path).status_code in (303, 401), path
    assert "No user exists yet" not in deployment.log("web")
    with httpx2.Client(base_url=deployment.url) as browser:
        form = {"email": ADMIN, "password": PASSWORD, "csrf_token": form_token(browser.get("/login"))}
        assert browser.post("/login", data=form).headers["location"] == "/studies"
        assert browser.get("/users").status_code == 200
    assert PASSWORD not in deployment.log("web")


@pytest.mark.slow
def test_a_run_is_taken_through_to_its_artifacts(deployment: Deployment) -> None:
    api = Api(deployment)
    assert httpx2.get(f"{deployment.url}/readyz").json()["ready"]
    model = _register_model(api, deployment)
    assert model["status"] == "ready", model["message"] + deployment.log("control")[-3000:]

    submitted = api.post("/runs", _spec(num_train_epochs=2))
    run = api.run(submitted["id"], {"succeeded", "failed", "cancelled"}, 120)

    assert run["status"] == "succeeded", run["failure"]
    assert run["attempt"] == 1 and run["result"]["memory"]["peak_bytes"] > 0
    artifacts = api.get(f"/runs/{run['id']}/artifacts")
    names = {artifact["name"] for artifact in artifacts}
    assert names >= {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    for artifact in artifacts:
        content = api.http.get(f"/artifacts/{artifact['id']}/content").content
        assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
    assert "succeeded" in deployment.run("web", ["vezna", "watch", str(run["id"]), "--run", "--json"])


ML_PROCESSES = {"worker.training.child", "worker.estimation.child"}
"""Children of workers that have the ML libraries: the trainer that waits, and what foresees."""


@pytest.mark.slow
def test_web_worker_and_control_have_no_torch_in_memory(deployment: Deployment) -> None:
    for service in ("web", "worker-cpu", "control"):
        process = psutil.Process(deployment.running[service].pid)
        served = [one for one in (process, *process.children(recursive=True)) if not ML_PROCESSES & set(one.cmdline())]
        mapped = {file.path for one in served for file in one.memory_maps()}
        assert mapped and not [path for path in mapped if "/torch/" in path], service


@pytest.mark.nightly
def test_sigterm_hands_the_run_back_within_the_grace_period_and_a_new_start_takes_it_up(deployment: Deployment) -> None:
    api = Api(deployment)
    assert _register_model(api, deployment)["status"] == "ready"
    run = api.post("/runs", _spec(max_steps=1_000_000))
    api.run(run["id"], {"running"}, 60, step=5)
    worker = psutil.Process(deployment.running["worker-cpu"].pid)
    family = worker.children(recursive=True)
    grace = float(deployment.services["worker-cpu"]["stop_grace_period"].removesuffix("s"))

    took = deployment.stop("worker-cpu", grace)

    handed_back = api.get(f"/runs/{run['id']}")
    assert took < grace
    assert (handed_back["status"], handed_back["attempt"]) == ("queued", 1)
    assert family and not [process for process in family if process.is_running()]

    deployment.start("worker-cpu")
    again = api.run(run["id"], {"running"}, 90, step=1)
    assert again["attempt"] == 2
    api.post(f"/runs/{run['id']}/cancel")
    assert api.run(run["id"], {"cancelled"}, 30)["failure"] is None


@pytest.mark.nightly
def test_the_sample_is_one_command_and_a_second_one_finds_the_first_ones_study(deployment: Deployment) -> None:
    api = Api(deployment)
    deployment.run("sample")
    deployment.run("sample")
    (study,) = api.get("/studies")["items"]
    assert len(study["runs"]) == 16
    api.post(f"/studies/{study['id']}/cancel")
    for run in study["runs"]:
        api.run(run, {"cancelled"}, 30)


def _tiny_study() -> dict[str, Any]:
    arms = [{"method": {"kind": "full"}}, {"method": {"kind": "lora", "r": 4, "target_modules": ["query", "value"]}}]
    training = {"max_steps": 2, "max_length": 16}
    named = {"name": "Tiny", "base_model": "tiny", "dataset": "words", "arms": arms, "training": training}
    return named | {"seeds": [0], "margin_points": 5}


def _database_text(found: Deployment) -> str:
    """Every row of every table."""
    with psycopg.connect(found.database_url) as connection:
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        assert {"runs", "studies", "workers", "run_events"} <= set(tables)
        return "\n".join(
            str(row[0])
            for table in tables
            for row in connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table)))
        )


def _places_of_secrets(texts: dict[str, str]) -> list[tuple[str, str]]:
    """Which text has which secret: as it is, or as PostgreSQL writes bytes."""
    return [
        (place, name)
        for place, text in texts.items()
        for name, secret in SECRETS.items()
        if secret in text or secret.encode().hex() in text
    ]


def _visible_texts(found: Deployment, study: int, run: int) -> dict[str, str]:
    """What a user, an operator or another account can see: pages, reports, errors, tables, files, logs, processes."""
    paths = [f"/studies/{study}", f"/studies/{study}/report.html", f"/runs/{run}", "/runs", "/workers", "/runs.csv"]
    paths += [f"/api/v1/studies/{study}/report", f"/api/v1/studies/{study}/tables/runs.csv", "/api/v1/workers"]
    paths += [f"/api/v1/runs/{run}", "/metrics", "/readyz", "/nowhere", "/api/v1/runs?filter=(", "/api/v1/openapi.json"]
    texts = {path: httpx2.get(found.url + path, headers=found.headers, timeout=60).text for path in paths}
    texts["database"] = _database_text(found)
    for process in psutil.process_iter(["cmdline"]):
        texts[f"command line of {process.pid}"] = " ".join(process.info["cmdline"] or [])
    kept = [file for folder in ("data", "tmp") for file in (found.folder / folder).rglob("*") if file.is_file()]
    for file in [*found.folder.glob("*.log"), *kept]:
        with suppress(FileNotFoundError):  # a trainer has removed it meanwhile
            if file.name != "redis.conf":  # its owner's alone
                texts[str(file)] = file.read_bytes().decode("latin-1")
    return texts


@pytest.mark.nightly
def test_no_command_line_log_page_report_table_or_file_has_a_secret(deployment: Deployment) -> None:
    """The last test of this module: it takes the servers away."""
    api = Api(deployment)
    assert _register_model(api, deployment)["status"] == "ready"
    study = api.post("/studies", _tiny_study())
    for run in study["runs"]:
        assert api.run(run, {"succeeded", "failed", "cancelled"}, 600)["status"] == "succeeded"
    token = deployment.environment("worker-cpu")["VEZNA_HUB_TOKEN_FILE"]
    assert SECRETS["hub_token"] in Path(token).read_text()

    texts = _visible_texts(deployment, study["id"], study["runs"][0])
    assert len(texts) > 30 and any("worker.celery" in text for text in texts.values())
    assert (deployment.folder / "tmp" / "redis.conf").stat().st_mode & 0o077 == 0

    deployment.stop("redis")
    texts["ready without a broker"] = httpx2.get(f"{deployment.url}/readyz", timeout=60).text
    deployment.stop("postgres", number=signal.SIGINT)
    for path in ("/studies", "/api/v1/studies", "/readyz", "/metrics"):
        answer = httpx2.get(deployment.url + path, headers=deployment.headers, timeout=60)
        assert answer.status_code == 503, path
        texts[f"{path} without a database"] = answer.text
    for command in (["vezna", "migrate"], ["vezna", "web"], ["vezna", "doctor"]):
        program = str(Path(sys.executable).parent / command[0])
        with pytest.raises(AssertionError) as failed:
            deployment.run("web", [program, *command[1:]])
        texts[" ".join(command)] = str(failed.value)
    for log in deployment.folder.glob("*.log"):
        texts[f"{log}, at the end"] = log.read_bytes().decode("latin-1")

    assert _places_of_secrets(texts) == []
    assert [place for place, text in texts.items() if deployment.token in text] == []
    assert _places_of_secrets({"a control": SECRETS["hub_token"], "bytes": b"marked-password-of-redis".hex()}) != []
