"""Dockerfile and docker-compose.yml: what they promise, and a run taken through their very commands."""

import hashlib
import re
import tomllib
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

import httpx2
import psutil
import pytest
import redis

from app.cli import cli
from app.queue import CONTROL_QUEUE, TRAIN_QUEUE
from app.services import datasets
from app.settings import ROOT, Settings
from app.store.files import Files
from app.store.session import Database
from tests import tiny
from tests.integration.deployment_services import POSTGRES, Deployment, Dockerfile, Missing, compose
from worker.supervisor import LINGER_SECONDS

SECRETS = {"POSTGRES_PASSWORD": "a-password-of-postgres", "REDIS_PASSWORD": "a-password-of-redis"}
OURS = {"migrate", "web", "worker-cpu", "worker-gpu", "beat", "sample"}
SERVERS = {"postgres", "redis"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The compose file's services, with both passwords given."""
    found: dict[str, Any] = compose(SECRETS)["services"]
    return found


# --- the Dockerfile ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["web", "worker"])
def test_an_image_runs_as_a_fixed_user_who_owns_nothing_but_data(target: str) -> None:
    image = Dockerfile()
    assert image.last(target, "USER") == "10001:10001"
    assert image.last(target, "VOLUME") == '["/data"]'
    assert all("--chown" not in value for name, value in image.chain(target) if name == "COPY")
    assert "pip uninstall" in image.last(target, "RUN")
    assert image.environment(target)["PYTHONUNBUFFERED"] == "1"
    assert image.command(target) and image.healthcheck(target)


def test_the_web_image_has_no_torch() -> None:
    image = Dockerfile()
    sources = [value.split()[0] for name, value in image.chain("web") if name == "COPY" and value.startswith("--from")]
    installed = [value for name, value in image.chain("environment-web") if name == "RUN" and "install" in value]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sources == ["--from=environment-web", "--from=code"]
    assert [re.findall(r'"\.\[(.+?)\]"', value) for value in installed] == [["s3"]]
    named = " ".join([*project["dependencies"], *project["optional-dependencies"]["s3"]])
    assert not re.search(r"torch|transformers|peft|accelerate|minilm|sentence", named)


def test_the_worker_image_has_the_ml_libraries_and_the_sample() -> None:
    installed = [value for name, value in Dockerfile().chain("environment-worker") if name == "RUN"]
    assert '".[s3,worker,sample]"' in installed[-1]


def test_the_images_environment_is_one_that_the_settings_know() -> None:
    known = {f"VEZNA_{name.upper()}" for name in Settings.model_fields}
    for target in ("web", "worker"):
        ours = {name for name in Dockerfile().environment(target) if name.startswith("VEZNA_")}
        assert ours <= known


# --- the compose file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absent", sorted(SECRETS))
def test_there_is_no_default_password(absent: str) -> None:
    with pytest.raises(Missing, match=absent):
        compose({name: value for name, value in SECRETS.items() if name != absent})


def test_the_example_names_every_variable_and_gives_no_secret() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    lines = (ROOT / ".env.example").read_text().splitlines()
    named = dict(match.groups() for line in lines if (match := re.match(r"#?([A-Z_]+)=(.*)$", line)))
    assert used <= set(named)
    assert all(named[name] == "" for name in SECRETS)


def test_it_has_the_services_and_starts_the_cpu_worker_by_itself(services: dict[str, Any]) -> None:
    assert set(services) == OURS | SERVERS
    assert {name for name, service in services.items() if service.get("profiles")} == {"worker-gpu", "sample"}


def test_the_web_server_alone_is_published_and_on_loopback_alone(services: dict[str, Any]) -> None:
    assert {name: s["ports"] for name, s in services.items() if "ports" in s} == {"web": ["127.0.0.1:8000:8000"]}
    assert all(services[name]["networks"] == ["inner"] for name in SERVERS)
    assert compose(SECRETS)["networks"]["inner"] == {"internal": True}


def test_the_servers_are_of_a_fixed_version_and_behind_a_password(services: dict[str, Any]) -> None:
    assert services["postgres"]["image"].startswith("postgres:17")
    assert services["redis"]["image"].startswith("redis:7")
    options = " ".join(services["redis"]["command"])
    assert "--appendonly yes" in options and "--maxmemory-policy noeviction" in options
    assert f"--requirepass {SECRETS['REDIS_PASSWORD']}" in options
    assert "scram-sha-256" in services["postgres"]["environment"]["POSTGRES_INITDB_ARGS"]


def test_a_worker_gets_more_time_to_stop_than_its_trainer_needs(services: dict[str, Any]) -> None:
    for name in ("worker-cpu", "worker-gpu"):
        stop = float(services[name]["environment"]["VEZNA_STOP_SECONDS"])
        assert int(services[name]["stop_grace_period"].removesuffix("s")) >= stop + LINGER_SECONDS + 10


def test_every_container_is_kept_small(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] and service["init"], name
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service and "cap_add" not in service, name


def test_what_lasts_is_checked_and_started_again_and_what_ends_is_not(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name in ("migrate", "sample"):
            assert service["restart"] == "no" and service["healthcheck"]["disable"], name
        else:
            image = Dockerfile().healthcheck(service["build"]["target"]) if name in OURS else None
            assert service["restart"] == "unless-stopped", name
            assert service.get("healthcheck", {}).get("test") or image, name


def test_ours_start_after_the_migrations_and_the_servers(services: dict[str, Any]) -> None:
    healthy = {"condition": "service_healthy"}
    assert services["migrate"]["depends_on"] == {"postgres": healthy}
    for name in OURS - {"migrate"}:
        assert services[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "postgres": healthy,
            "redis": healthy,
        }


def test_web_and_workers_share_the_files(services: dict[str, Any]) -> None:
    for name in OURS - {"migrate"}:
        place = services[name]["environment"]["VEZNA_FILES_URL"]
        assert f"files:{place}" in services[name]["volumes"], name
    volumes = {v.split(":")[0] for s in services.values() for v in s.get("volumes", []) if not v.startswith((".", "/"))}
    assert volumes == set(compose(SECRETS)["volumes"])


def test_the_gpu_worker_reserves_a_card(services: dict[str, Any]) -> None:
    reserved = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert reserved == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert services["worker-gpu"]["environment"]["VEZNA_DEVICE"] == "cuda"


def test_its_commands_are_ours(services: dict[str, Any]) -> None:
    commands = {command.name or command.callback.__name__ for command in cli.registered_commands if command.callback}
    for name in ("migrate", "sample"):
        program, command = services[name]["command"]
        assert program == "vezna" and command in commands
    worker = Dockerfile().command("worker")
    assert worker[worker.index("-Q") + 1] == TRAIN_QUEUE
    beat = services["beat"]["command"]
    assert beat[beat.index("-Q") + 1] == CONTROL_QUEUE and "-B" in beat
    assert "scale" not in services["beat"] and "replicas" not in str(services["beat"])


def test_its_environment_is_one_that_the_settings_know(services: dict[str, Any]) -> None:
    known = {f"VEZNA_{name.upper()}" for name in Settings.model_fields} | {"VEZNA_URL"}
    for name in OURS:
        assert {key for key in services[name]["environment"] if key.startswith("VEZNA_")} <= known, name


# --- the commands, run ------------------------------------------------------------------------------------------------


class Api:
    """The REST API of a deployment."""

    def __init__(self, url: str) -> None:
        self.http = httpx2.Client(base_url=f"{url}/api/v1", timeout=30.0)

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
    try:
        found.start_redis()
        found.start_postgres()
        _servers_answer(found)
        found.run("migrate")
        for service in ("web", "worker-cpu", "beat"):
            found.start(service)
        _register_dataset(found)
        found.healthy("web")
        found.healthy("worker-cpu")
        found.healthy("beat")
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
    known = redis.Redis(port=found.ports["redis"], password=SECRETS["REDIS_PASSWORD"])
    assert known.config_get("appendonly")["appendonly"] == "yes"
    assert known.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def _register_dataset(found: Deployment) -> None:
    environment = found.environment("web")
    database = Database(environment["VEZNA_DATABASE_URL"])
    with database.transaction() as session:
        datasets.register(
            session,
            Files(environment["VEZNA_FILES_URL"]),
            name="words",
            title="Words",
            task="sequence-classification",
            labels=tiny.LABELS,
            rows=tiny.rows(),
        )
    database.engine.dispose()


def _register_model(api: Api, found: Deployment) -> Any:
    model = api.post("/models", {"name": "tiny", "source": "directory", "location": found.here("/models/tiny")})
    deadline = monotonic() + 90
    while model["status"] == "inspecting" and monotonic() < deadline:
        sleep(0.3)
        model = api.get("/models/tiny")
    return model


def _spec(**training: object) -> dict[str, Any]:
    method = {"kind": "lora", "r": 4, "target_modules": ["query", "value"]}
    return {"base_model": "tiny", "dataset": "words", "method": method, "training": {"max_length": 16, **training}}


@pytest.mark.slow
def test_a_run_is_taken_through_to_its_artifacts(deployment: Deployment) -> None:
    api = Api(deployment.url)
    assert httpx2.get(f"{deployment.url}/readyz").json()["ready"]
    model = _register_model(api, deployment)
    assert model["status"] == "ready", model["message"] + deployment.log("beat")[-3000:]

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


@pytest.mark.slow
def test_web_worker_and_beat_have_no_torch_in_memory(deployment: Deployment) -> None:
    for service in ("web", "worker-cpu", "beat"):
        process = psutil.Process(deployment.running[service].pid)
        mapped = {file.path for one in (process, *process.children(recursive=True)) for file in one.memory_maps()}
        assert mapped and not [path for path in mapped if "/torch/" in path], service


@pytest.mark.slow
def test_sigterm_hands_the_run_back_within_the_grace_period_and_a_new_start_takes_it_up(deployment: Deployment) -> None:
    api = Api(deployment.url)
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
