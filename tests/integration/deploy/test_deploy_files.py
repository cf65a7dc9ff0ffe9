"""The files in deploy/ and the further compose files: valid by the programs' own checks, and in step with the rest."""

import os
import re
import shutil
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from sqlalchemy import text

from app.domain.methods import FullSpec
from app.domain.runs.spec import RunSpec
from app.services.runs import runs as run_service
from app.settings import ROOT, Settings
from app.store.database.session import Database
from tests.integration.deploy.container_files import Dockerfile, compose
from tests.support.fakes.fakes import SilentBell

KUBERNETES, SYSTEMD = ROOT / "deploy" / "kubernetes", ROOT / "deploy" / "systemd"
GIVEN = {"VEZNA_FILES_URL": "s3://b/p"}
GIVEN |= {"VEZNA_SERVER_ADDRESS": "10.0.0.1", "VEZNA_PRIVATE_ADDRESS": "10.0.0.1", "VEZNA_DOMAIN": "localhost"}


def program(name: str) -> str:
    """A program that not every machine has."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def plain() -> list[dict[str, Any]]:
    """Every object of the Kubernetes files as it is written, before kustomize."""
    names = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    return [found for name in names for found in yaml.safe_load_all((KUBERNETES / name).read_text())]


def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The same, or as kustomize builds them."""
    if request.param == "plain":
        return plain()
    done = subprocess.run([program("kustomize"), "build", KUBERNETES], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


built = pytest.fixture(params=["plain", "kustomize"])(objects)


def workloads(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Deployments and jobs by name."""
    return {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] in ("Deployment", "Job")}


def test_the_kubernetes_objects_are_valid_by_its_schema_and_by_that_of_keda(built: list[dict[str, Any]]) -> None:
    kinds = []
    for one in built:
        kinds.append(one["kind"])
        if one["apiVersion"].startswith("keda.sh/"):
            getattr(keda, one["kind"]).model_validate(one)
        else:
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    ours = ["Deployment"] * 3 + ["Job", "Namespace", "ScaledObject", "Service", "TriggerAuthentication"]
    assert sorted(kind for kind in kinds if kind != "ConfigMap") == ours
    broken = next(one for one in plain() if one["kind"] == "Job")
    broken["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_pods_are_unprivileged_bounded_and_read_the_secret_by_reference(built: list[dict[str, Any]]) -> None:
    assert set(workloads(built)) == {"vezna-migrate", "vezna-web", "vezna-control", "vezna-worker"}
    for name, spec in workloads(built).items():
        pod = spec["template"]["spec"]
        [container] = pod["containers"]
        assert pod["securityContext"]["runAsUser"] == 10001 and pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"secretRef": {"name": "vezna"}} in container["envFrom"], name
        assert container["resources"]["limits"]["memory"], name
        volumes = [volume for volume in pod["volumes"] if "secret" not in volume]
        assert all("sizeLimit" in volume["emptyDir"] for volume in volumes), name
        assert container["image"].partition(":")[0] in {"vezna-web", "vezna-worker"}
    secrets = {
        name: [volume["secret"] for volume in spec["template"]["spec"]["volumes"] if "secret" in volume]
        for name, spec in workloads(built).items()
    }
    assert [name for name, given in secrets.items() if given] == ["vezna-web"]
    assert secrets["vezna-web"] == [{"secretName": "vezna-receipts", "optional": True, "defaultMode": 0o440}]
    assert not [one for one in built if one["kind"] == "Secret"]


def test_all_have_the_same_key_of_stored_secrets(built: list[dict[str, Any]]) -> None:
    reference = {"secretRef": {"name": "vezna-encryption", "optional": True}}
    sources = {name: spec["template"]["spec"]["containers"][0]["envFrom"] for name, spec in workloads(built).items()}
    have = {name for name, given in sources.items() if reference in given}
    assert have == {"vezna-migrate", "vezna-web", "vezna-control", "vezna-worker"}


def test_control_is_one_workers_have_a_gpu_each_and_time_to_hand_back(built: list[dict[str, Any]]) -> None:
    found, commands = workloads(built), compose(GIVEN)["services"]
    assert (found["vezna-control"]["replicas"], found["vezna-control"]["strategy"]) == (1, {"type": "Recreate"})
    worker = found["vezna-worker"]["template"]["spec"]
    assert "replicas" not in found["vezna-worker"]  # KEDA's
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert worker["terminationGracePeriodSeconds"] == 60
    control = found["vezna-control"]["template"]["spec"]["containers"][0]
    assert control["command"] == commands["control"]["command"]
    assert control["livenessProbe"]["exec"]["command"] == Dockerfile().healthcheck("worker")


def test_keda_counts_the_runs_that_wait_or_train(registered: Database, settings: Settings) -> None:
    [scaled] = [one for one in plain() if one["kind"] == "ScaledObject"]
    query = text(scaled["spec"]["triggers"][0]["metadata"]["query"])
    with registered.transaction() as session:
        assert session.scalar(query) == 0
        spec = RunSpec(base_model="tiny", dataset="small", method=FullSpec())
        run_service.submit(session, SilentBell(), spec)
    with registered.reading() as session:
        assert session.scalar(query) == 1


def test_the_systemd_units_are_valid_and_run_the_containers_commands(tmp_path: Path) -> None:
    services, image = compose(GIVEN)["services"], Dockerfile()
    expected = {
        "vezna-migrate": " ".join(services["migrate"]["command"]),
        "vezna-web": " ".join(image.command("web")),
        "vezna-control": " ".join(services["control"]["command"]),
        "vezna-worker": " ".join(image.command("worker")),
    }
    assert {file.stem for file in SYSTEMD.iterdir()} == set(expected)
    for name, command in expected.items():
        unit = (SYSTEMD / f"{name}.service").read_text()
        [started] = re.findall(r"^ExecStart=/opt/vezna/.venv/bin/(.+)$", unit, re.MULTILINE)
        assert started.replace("%%", "%") == command
        assert "NoNewPrivileges=yes" in unit and "User=vezna" in unit
        (tmp_path / f"{name}.service").write_text(re.sub(r"/opt/vezna/\.venv/bin/\w+", "/bin/true", unit))
        if name == "vezna-migrate":  # a failed one is tried again, and keeps no other down for good
            assert "Restart=on-failure" in unit and "RestartSec=5" in unit
        else:
            assert "Wants=vezna-migrate.service" in unit and "Requires=" not in unit and "Restart=always" in unit
    for name in ("vezna-control", "vezna-worker"):
        assert "TimeoutStopSec=60" in (SYSTEMD / f"{name}.service").read_text()
    assert "Environment=CUDA_DEVICE_ORDER=PCI_BUS_ID\n" in (SYSTEMD / "vezna-worker.service").read_text()
    analyze = program("systemd-analyze")
    units = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_caddy_accepts_its_file() -> None:
    file = ROOT / "deploy" / "caddy" / "Caddyfile"
    command = [program("caddy"), "validate", "--adapter", "caddyfile", "--config", file]
    settings = {"VEZNA_DOMAIN": "localhost"}
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "reverse_proxy web:8000" in file.read_text()


def test_the_proxy_tells_the_server_its_name() -> None:
    file = compose(GIVEN, ROOT / "deploy/compose.proxy.yml")
    services = file["services"]
    proxied = {"VEZNA_ALLOWED_HOSTS": "localhost", "VEZNA_FORWARDED_ALLOW_IPS": "10.213.77.2"}
    assert services["web"] == {"environment": proxied, "networks": ["edge"]}
    proxy = services["proxy"]
    assert proxy["cap_drop"] == ["ALL"] and proxy["cap_add"] == ["NET_BIND_SERVICE"] and proxy["read_only"]
    assert proxy["networks"] == {"edge": {"ipv4_address": "10.213.77.2"}}  # not where the database is
    [edge] = file["networks"]["edge"]["ipam"]["config"]
    fixed, network, others = ip_address("10.213.77.2"), ip_network(edge["subnet"]), ip_network(edge["ip_range"])
    assert fixed in network and others.subnet_of(network)
    assert fixed not in others and str(fixed) != edge["gateway"]  # `web` starts first and takes an address of `others`


def test_other_machines_come_in_by_one_private_address() -> None:
    services = compose(GIVEN, ROOT / "deploy/compose.remote.yml")["services"]
    assert {name: service["ports"] for name, service in services.items()} == {
        "postgres": ["10.0.0.1:5432:5432"],
        "redis": ["10.0.0.1:6379:6379"],
    }


def test_a_worker_elsewhere_is_like_one_here_but_for_the_servers_addresses() -> None:
    elsewhere = compose(GIVEN, ROOT / "deploy/compose.worker.yml")["services"]
    here = compose(GIVEN)["services"]["worker-cpu"]
    apart = {"environment", "networks", "depends_on", "volumes", "profiles"}
    worker = elsewhere["worker-cpu"]
    assert {k: v for k, v in worker.items() if k not in apart} == {k: v for k, v in here.items() if k not in apart}
    assert set(worker["volumes"]) == set(here["volumes"]) - {"files:/data/files"}
    moved = {"VEZNA_DATABASE_URL", "VEZNA_BROKER_URL", "VEZNA_FILES_URL"}
    assert {k: v for k, v in worker["environment"].items() if k not in moved} == {
        k: v for k, v in here["environment"].items() if k not in moved
    }
    assert [worker["environment"][name] for name in sorted(moved)] == [
        "redis://10.0.0.1:6379/0",
        "postgresql://vezna@10.0.0.1:5432/vezna",
        "s3://b/p",
    ]
    gpu = compose(GIVEN, ROOT / "deploy/compose.gpu.yml")["services"]["worker-gpu"]
    assert elsewhere["worker-gpu"]["profiles"] == ["gpu"] and elsewhere["worker-gpu"]["deploy"] == gpu["deploy"]
    both = elsewhere["worker-gpu"]["environment"], gpu["environment"]
    for name in ("VEZNA_DEVICE", "NVIDIA_DRIVER_CAPABILITIES", "CUDA_DEVICE_ORDER"):
        assert both[0][name] == both[1][name]


@pytest.mark.parametrize("name", ["gpu", "proxy", "remote", "worker"])
def test_docker_compose_accepts_the_further_files(name: str) -> None:
    if subprocess.run([program("docker"), "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker has no compose here")
    further = f"deploy/compose.{name}.yml"
    files = [further] if name == "worker" else ["docker-compose.yml", further]
    options = [option for file in files for option in ("--file", file)]
    environment = os.environ | GIVEN | {"COMPOSE_DISABLE_ENV_FILE": "1"}
    command = ["docker", "compose", *options, "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
