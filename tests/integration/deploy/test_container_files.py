"""What Dockerfile and docker-compose.yml promise."""

import os
import re
import subprocess
import sys
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.broker.queue import CONTROL_QUEUE, TRAIN_QUEUE
from app.cli.program import cli
from app.cli.users.credentials import VARIABLE
from app.domain.runs.capabilities import CAPABILITIES
from app.settings import ROOT, Settings
from tests.integration.deploy.container_files import FILES, Dockerfile, Missing, compose
from worker.training.supervisor import LINGER_SECONDS

PASSWORDS = {"postgres_password", "redis_password"}
KEY = "encryption_key"
HAVE_KEY = {"migrate", "web", "control", "worker-cpu", "sample"}
"""What encrypts stored secrets, and what decrypts them."""
OURS = {"migrate", "web", "worker-cpu", "control", "sample"}
SERVERS = {"postgres", "redis"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The compose file's services."""
    found: dict[str, Any] = compose({})["services"]
    return found


# --- the Dockerfile ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["web", "worker"])
def test_an_image_runs_as_a_fixed_user_who_owns_nothing_but_data(target: str) -> None:
    image = Dockerfile()
    assert image.last(target, "USER") == "10001:10001"
    assert not [value for name, value in image.chain(target) if name == "VOLUME"]  # each would be anonymous
    assert all("--chown" not in value for name, value in image.chain(target) if name == "COPY")
    assert "pip uninstall" in dict(image.stages["runtime"].instructions)["RUN"]
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


def test_the_worker_image_has_the_ml_libraries_the_sample_the_hubs_data_and_all_that_a_method_may_need() -> None:
    installed = [value for name, value in Dockerfile().chain("environment-worker") if name == "RUN"]
    [extras] = re.findall(r'"\.\[(.+?)\]"', installed[-1])
    of_methods = {extra for facts in CAPABILITIES.values() for extra in re.findall(r"vezna\[(\w+)\]", facts.remedy)}
    assert of_methods
    assert {"s3", "worker", "hub", "sample", "energy", "export", "trackers", "tensorboard"} | of_methods == set(
        extras.split(",")
    )


def test_the_images_environment_is_one_that_the_settings_know() -> None:
    known = {f"VEZNA_{name.upper()}" for name in Settings.model_fields}
    for target in ("web", "worker"):
        ours = {name for name in Dockerfile().environment(target) if name.startswith("VEZNA_")}
        assert ours <= known


def test_a_proxy_is_in_the_way_of_no_health_check_and_of_no_service_of_ours(
    services: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "livez").touch()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        check = [word.replace(":8000", f":{server.server_port}") for word in Dockerfile().healthcheck("web")]
        proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
        environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"} | proxy
        subprocess.run([sys.executable, *check[1:]], env=environment, check=True)
        (tmp_path / "livez").unlink()
        assert subprocess.run(
            [sys.executable, *check[1:]], env=environment, capture_output=True, check=False
        ).returncode
        server.shutdown()
    direct = compose({"NO_PROXY": "store.example"})["services"]["web"]["environment"]["NO_PROXY"].split(",")
    assert direct == ["localhost", "127.0.0.1", "web", "postgres", "redis", "store.example"]
    for name in OURS:
        assert {"web", "localhost"} <= set(services[name]["environment"]["NO_PROXY"].split(",")), name


# --- the compose file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["docker-compose.yml", "deploy/compose.worker.yml"])
def test_passwords_are_files_and_no_environment_nor_command_has_one(file: str) -> None:
    """`docker inspect` shows environments and commands, `ps` commands. Without the files nothing starts."""
    given = {"VEZNA_SERVER_ADDRESS": "10.0.0.1", "VEZNA_FILES_URL": "s3://b/p"}
    found = compose(given, ROOT / file)
    names = PASSWORDS | ({KEY} if HAVE_KEY & set(found["services"]) else set())
    assert {name: secret["file"] for name, secret in found["secrets"].items()} == {
        name: f"./deploy/secrets/{name}" for name in names
    }
    for name, service in found["services"].items():
        files = {value for key, value in service["environment"].items() if key.endswith("_FILE") and value}
        files |= set(re.findall(r"/run/secrets/\w+", str([service.get("command"), service.get("healthcheck")])))
        assert files == {f"/run/secrets/{secret}" for secret in service["secrets"]} != set(), name
        urls = [value for key, value in service["environment"].items() if key.endswith("_URL")]
        assert not [url for url in urls if urlsplit(url).password], name
        assert not [key for key in service["environment"] if key.endswith(("PASSWORD", "_AUTH"))], name
        whole = {f"VEZNA_{secret.upper()}" for secret in Settings.secrets() if not secret.endswith("_url")}
        assert whole.isdisjoint(service["environment"]), name
    assert "*" in (ROOT / "deploy" / "secrets" / ".gitignore").read_text().splitlines()
    assert "!deploy" not in (ROOT / ".dockerignore").read_text().splitlines()


def test_what_decrypts_stored_secrets_has_the_key_that_encrypts_them(services: dict[str, Any]) -> None:
    """Workers, for the hub tokens of the users whose runs they train; their trainers have none."""
    keys = {name: services[name]["environment"].get("VEZNA_ENCRYPTION_KEY_FILE") for name in OURS}
    assert {name: key for name, key in keys.items() if key} == dict.fromkeys(HAVE_KEY, f"/run/secrets/{KEY}")
    assert {name for name in OURS if KEY in services[name]["secrets"]} == HAVE_KEY


def test_a_variable_without_a_default_is_asked_for() -> None:
    with pytest.raises(Missing, match="VEZNA_SERVER_ADDRESS"):
        compose({}, ROOT / "deploy/compose.worker.yml")


def test_the_example_names_every_variable_and_gives_no_secret() -> None:
    used = {name for file in FILES for name in re.findall(r"\$\{(\w+)", (ROOT / file).read_text())}
    lines = (ROOT / ".env.example").read_text().splitlines()
    named = dict(match.groups() for line in lines if (match := re.match(r"#?([A-Z_0-9]+)=(.*)$", line)))
    assert used <= set(named)
    assert not [name for name in named if name.endswith("PASSWORD")]


def test_the_web_server_alone_is_published_and_on_loopback_alone(services: dict[str, Any]) -> None:
    assert {name: s["ports"] for name, s in services.items() if "ports" in s} == {"web": ["127.0.0.1:8000:8000"]}
    assert all(services[name]["networks"] == ["inner"] for name in SERVERS)
    assert compose({})["networks"]["inner"] == {"internal": True}


def test_the_database_is_in_its_volume_whatever_the_image_has_by_default(services: dict[str, Any]) -> None:
    place = services["postgres"]["environment"]["PGDATA"]
    assert services["postgres"]["volumes"] == [f"pgdata:{place}"]


def test_the_servers_are_of_a_fixed_version_and_behind_a_password(services: dict[str, Any]) -> None:
    assert services["postgres"]["image"].startswith("postgres:17")
    assert services["redis"]["image"].startswith("redis:7")
    shell, flag, script, *command = services["redis"]["command"]
    assert (shell, flag, command[0]) == ("sh", "-c", "redis-server")
    options = " ".join(command)
    assert "--appendonly yes" in options and "--maxmemory-policy noeviction" in options
    assert "umask 077" in script and "requirepass" in script and script.endswith('redis-server /tmp/redis.conf "$@"')
    assert "scram-sha-256" in services["postgres"]["environment"]["POSTGRES_INITDB_ARGS"]


def test_a_worker_gets_more_time_to_stop_than_its_trainer_needs(services: dict[str, Any]) -> None:
    for name in ("worker-cpu",):
        stop = float(services[name]["environment"]["VEZNA_STOP_SECONDS"])
        assert int(services[name]["stop_grace_period"].removesuffix("s")) >= stop + LINGER_SECONDS + 10


def test_every_container_is_kept_small(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] and service["init"], name
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service and "cap_add" not in service, name


def test_web_and_workers_share_the_files(services: dict[str, Any]) -> None:
    for name in OURS - {"migrate"}:
        place = services[name]["environment"]["VEZNA_FILES_URL"]
        assert f"files:{place}" in services[name]["volumes"], name
    volumes = {v.split(":")[0] for s in services.values() for v in s.get("volumes", []) if not v.startswith((".", "/"))}
    assert volumes == set(compose({})["volumes"])


def test_one_worker_has_every_gpu_and_is_like_the_cpu_worker(services: dict[str, Any]) -> None:
    gpu = compose({"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}, ROOT / "deploy/compose.gpu.yml")["services"]
    assert gpu.pop("worker-cpu") == {"profiles": ["cpu"], "environment": {}}
    worker = gpu.pop("worker-gpu")
    [device] = worker.pop("deploy")["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    gpu_only = {
        "VEZNA_DEVICE": "cuda",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b",
    }
    expected = services["worker-cpu"]["environment"] | gpu_only
    shared_memory = {"shm_size": "1gb"}  # which runs on several GPUs need
    assert worker == services["worker-cpu"] | {"environment": expected} | shared_memory
    assert not gpu


def test_its_commands_are_ours(services: dict[str, Any]) -> None:
    commands = {command.name or command.callback.__name__ for command in cli.registered_commands if command.callback}
    for name in ("migrate", "sample"):
        program, command = services[name]["command"]
        assert program == "vezna" and command in commands
    worker = Dockerfile().command("worker")
    assert worker[worker.index("-Q") + 1] == TRAIN_QUEUE
    control = services["control"]["command"]
    assert control[control.index("-Q") + 1] == CONTROL_QUEUE
    assert "scale" not in services["control"] and "replicas" not in str(services["control"])


def test_its_environment_is_one_that_the_settings_know(services: dict[str, Any]) -> None:
    known = {f"VEZNA_{name.upper()}" for name in Settings.model_fields} | {VARIABLE}
    known |= {f"VEZNA_{name.upper()}_FILE" for name in Settings.secrets()}
    for name in OURS:
        assert {key for key in services[name]["environment"] if key.startswith("VEZNA_")} <= known, name


def test_every_documented_setting_reaches_the_processes_that_have_it() -> None:
    """By .env or the shell, but for what the images fix."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    chapters = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    fixed = {"VEZNA_HOME", "VEZNA_DATABASE_URL", "VEZNA_BROKER_URL", "VEZNA_MODEL_ROOTS", "VEZNA_HOST", "VEZNA_PORT"}
    fixed |= {"VEZNA_DATABASE_PASSWORD", "VEZNA_BROKER_PASSWORD", "VEZNA_ADMIN_PASSWORD"}
    fixed |= {
        "VEZNA_ENCRYPTION_KEY",
        "VEZNA_OPENID_CLIENT_SECRET",
        "VEZNA_HUB_TOKEN",
        "VEZNA_TRACKER_TOKEN",
    }  # as files
    fixed |= {"VEZNA_LOGIN", "VEZNA_URL", "VEZNA_DEVICE", "VEZNA_HEARTBEAT_FILE", "VEZNA_WORKER_NAME"}
    given = dict.fromkeys(re.findall(r"[A-Z][A-Z_]+", page), "given")
    reached = {name: service["environment"] for name, service in compose(given)["services"].items()}
    seen = set()
    for chapter, text in chapters.items():
        settings = {name for name in re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE)} - fixed
        seen |= settings
        for service in OURS - {"migrate"}:
            if (chapter, service == "web") in {("Web server", False), ("Workers", True)}:
                continue
            expected = {name for name in settings if service != "web" or not name.startswith(("HF_", "VEZNA_HUB_"))}
            assert not {name for name in expected if not str(reached[service].get(name)).endswith("given")}, service
    assert {"HF_HUB_OFFLINE", "HF_ENDPOINT", "HTTPS_PROXY", "AWS_REGION", "VEZNA_DATA_ROOTS"} <= seen


def test_logs_memory_and_temporary_files_are_bounded_and_volumes_have_names(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["logging"]["options"] == {"max-size": "20m", "max-file": "5"}, name
        assert re.fullmatch(r"[1-9]\d*[gm]", service["mem_limit"]) or name in ("worker-cpu", "sample"), name
        assert all(":size=" in place for place in service.get("tmpfs", [])), name
        assert all(":" in volume for volume in service.get("volumes", [])), name


@pytest.mark.parametrize("name", ["models", "data"])
def test_mounted_directories_belong_to_the_checkout(name: str) -> None:
    """Docker would create a missing one as root, and its user could put nothing there."""
    assert "!.gitignore" in (ROOT / "deploy" / name / ".gitignore").read_text().splitlines()
