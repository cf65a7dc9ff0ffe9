"""What an operator does with the compose file: start, submit, lose a worker, stop, scale, back up, restore. The
commands of backup and restore are those of docs/deployment.md, those of users and a study of docs/team-server.md."""

import base64
import hashlib
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx2

from app.cli.client import Client
from app.settings import ROOT
from app.store.database import migrate
from tests.containers.engine import Failed, run
from tests.support.tiny import texts as tiny

MIGRATION = """from alembic import op
revision = "9999"
down_revision = "{head}"
def upgrade() -> None:
    op.execute("CREATE TABLE of_the_next_version (id INTEGER)")
"""
NEXT = """FROM {image}
COPY --chmod=644 9999_next.py /srv/vezna/migrations/versions/
"""
"""A version of Vezna that is newer by a migration."""
ENDED = {"succeeded", "failed", "cancelled"}


class Installation:
    """One installation by docker-compose.yml as it stands, in a project of its own, and its REST API."""

    def __init__(self, name: str, folder: Path, tag: str) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.environment = {
            "COMPOSE_PROJECT_NAME": name,
            "COMPOSE_DISABLE_ENV_FILE": "1",  # whatever stands in the checkout's own .env
            "COMPOSE_FILE": "docker-compose.yml",
            "VEZNA_SECRETS_DIR": str(folder / "secrets"),
            "VEZNA_PORT": str(port),
            "VEZNA_TAG": tag,
            "VEZNA_MODELS_DIR": str(folder / "models"),
            "VEZNA_DATA_DIR": str(folder / "data"),
            "VEZNA_ALLOWED_HOSTS": "vezna.example",  # health checks and commands in containers work all the same
            "VEZNA_LEASE_SECONDS": "20",
            "VEZNA_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        (folder / "secrets").mkdir(mode=0o700)
        for password in ("postgres_password", "redis_password"):
            (folder / "secrets" / password).write_text(secrets.token_hex(16) + "\n")
        key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        (folder / "secrets" / "encryption_key").write_text(key + "\n")
        self.url = f"http://127.0.0.1:{port}"
        self.api = Client(self.url, "")

    def compose(self, *words: str, seconds: float = 300) -> str:
        """A command of `docker compose`; its output."""
        return run("docker", "compose", *words, environment=self.environment, cwd=ROOT, seconds=seconds).stdout

    def documented(self, page: str, chapter: str, seconds: float = 300) -> str:
        """Run the commands of a page's chapter, in a folder that has the compose file; what the last of them print."""
        environment = self.environment | {
            "COMPOSE_FILE": str(ROOT / "docker-compose.yml"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "VEZNA_URL": self.url,
        }
        printed = ""
        for commands in blocks(page, chapter, "sh"):
            words = ("bash", "-euo", "pipefail", "-c", commands)
            printed = run(*words, environment=environment, cwd=self.folder, seconds=seconds).stdout
        return printed

    def up(self, *words: str) -> None:
        """Start what the file starts, and wait until everything is healthy."""
        self.compose("up", "--detach", "--no-build", "--wait", *words, seconds=400)

    def log_in(self) -> None:
        """Create an admin and a member, and use the member's API token from here on, also in containers."""
        token = self.documented("team-server.md", "Users and limits").split()[-1]
        self.environment["VEZNA_TOKEN"] = token
        self.api = Client(self.url, token)

    def vezna(self, *words: str) -> str:
        """A command in a container of its own, with the token; its output."""
        return self.compose("run", "--rm", "-T", "--env", "VEZNA_TOKEN", "web", "vezna", *words)

    def container(self, service: str) -> str:
        """The id of a service's only container."""
        [found] = self.compose("ps", "--quiet", service).split()
        return found

    def down(self) -> None:
        """End it with everything that it kept."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")

    def logs(self) -> str:
        """The end of every container's log."""
        return self.compose("ps", "--all") + self.compose("logs", "--no-color", "--tail", "25")


def blocks(page: str, chapter: str, language: str) -> list[str]:
    """A documentation page's blocks in a language, of one chapter."""
    text = (ROOT / "docs" / page).read_text()
    [found] = re.findall(rf"^## {chapter}\n(.+?)^## ", text, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^ *```{language}\n(.+?)```", found, re.MULTILINE | re.DOTALL)


def until(what: str, condition: Callable[[], Any], seconds: float) -> Any:
    """Wait for a condition that is true at last; its value. Raises Failed."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not in {seconds:.0f} s: {what}")
        time.sleep(0.5)
    return found


@contextmanager
def installation(name: str, tag: str) -> Iterator[Installation]:
    """An installation that is removed at the end. What went wrong is printed with the containers' logs."""
    folder = Path(mkdtemp(prefix="vezna-installation-"))
    folder.chmod(0o755)
    for part in ("models", "data"):
        (folder / part).mkdir(mode=0o755)
    tiny.save_model(folder / "models" / "all-MiniLM-L6-v2")
    run("chmod", "--recursive", "a+rX", str(folder / "models"))
    found = Installation(name, folder, tag)
    try:
        yield found
    except Exception:
        print(found.logs(), flush=True)
        raise
    finally:
        found.down()
        run("rm", "--recursive", "--force", str(folder))


def started(here: Installation) -> None:
    """Everything is healthy, unprivileged, and bounded."""
    here.up()
    assert httpx2.get(f"{here.url}/readyz").json()["ready"]
    assert httpx2.get(f"{here.url}/api/v1/runs").status_code == 401
    assert "/first-admin/" in here.compose("logs", "--no-color", "web")
    here.log_in()
    assert httpx2.get(f"{here.url}/livez", headers={"Host": "vezna.example"}).status_code == 200
    assert httpx2.get(f"{here.url}/livez", headers={"Host": "rebound.example"}).status_code == 400
    assert "MiniLM" not in here.vezna("models", "list")
    kept = here.compose("exec", "-T", "worker-cpu", "sh", "-c", "id -u; ls -d $VEZNA_HOME; gcc --version; env")
    assert kept.startswith("10001\n/data/home\ngcc") and "HF_HUB_OFFLINE=1" in kept
    names = run(
        "docker", "volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={_name(here)}"
    ).stdout
    volumes = run("docker", "volume", "ls", "--quiet").stdout
    anonymous = {volume for volume in volumes.split() if re.fullmatch("[0-9a-f]{64}", volume)}
    assert len(names.split()) == 6 and not anonymous, volumes


def _name(here: Installation) -> str:
    return here.environment["COMPOSE_PROJECT_NAME"]


def submitted(here: Installation) -> list[int]:
    """A base model by directory, a dataset by upload, a study, all by a member's command line; its runs."""
    lines = [f"{row.text} {number},{tiny.LABELS[row.label]}" for number, row in enumerate(tiny.rows())]
    (here.folder / "tickets.csv").write_text("\n".join(["text,label", *lines, ""]))
    chapter = "A colleague's first study"
    [study] = blocks("team-server.md", chapter, "yaml")
    longer = study.replace("num_train_epochs: 3", "num_train_epochs: 30")  # long enough to be killed meanwhile
    (here.folder / "tickets.yaml").write_text(longer)
    printed = here.documented("team-server.md", chapter)
    assert "Study 1 is queued" in printed, printed
    return [run["id"] for run in here.api.get("/runs?filter=study:1")["items"]]


def killed(here: Installation, runs: list[int]) -> int:
    """The worker's container is killed in the middle of a run, which is queued again; started again, it takes runs."""
    run_id = _running(here, runs)
    run("docker", "kill", here.container("worker-cpu"))
    until("the run is handed back", lambda: here.api.get(f"/runs/{run_id}")["status"] == "queued", 240)
    here.compose("start", "worker-cpu")
    _running(here, runs)
    return run_id


def _running(here: Installation, runs: list[int]) -> int:
    """The run that trains, once it has made some steps."""

    def training() -> int | None:
        found = [here.api.get(f"/runs/{run_id}") for run_id in runs]
        return next((run["id"] for run in found if run["status"] == "running" and run["step"] >= 3), None)

    return int(until("a run trains", training, 300))


def stopped(here: Installation, runs: list[int]) -> float:
    """`stop` hands the run back within the grace period; seconds that it took."""
    run_id, stopped = _running(here, runs), here.container("worker-cpu")
    began = time.monotonic()
    here.compose("stop", "worker-cpu")
    took = time.monotonic() - began
    assert here.api.get(f"/runs/{run_id}")["status"] in {"queued", "succeeded"}
    code = run("docker", "inspect", "--format", "{{.State.ExitCode}}", stopped).stdout.strip()
    assert code != "137", "the worker was killed at the end of its grace period"
    here.compose("start", "worker-cpu")
    return took


def scaled(here: Installation) -> None:
    """Two workers, each with its name."""
    here.up("--no-recreate", "--scale", "worker-cpu=2")
    workers = until("two workers", lambda: len(w := here.api.get("/workers")) == 2 and w, 120)
    assert len({worker["name"] for worker in workers}) == 2
    assert all(worker["state"] in {"idle", "running"} for worker in workers), workers


def decided(here: Installation, runs: list[int]) -> tuple[Any, dict[str, str]]:
    """The verdict of the finished study, and the digest of every artifact, which the file has."""
    until("the runs end", lambda: {here.api.get(f"/runs/{i}")["status"] for i in runs} <= ENDED, 900)
    study = here.api.get("/studies/1")
    assert study["status"] == "finished", study
    assert "LoRA r=4" in here.documented("team-server.md", "The verdict")
    verdicts = [arm["verdict"] for arm in here.api.get("/studies/1/comparison")["arms"]]
    artifacts = {}
    for run_id in runs:
        for artifact in here.api.get(f"/runs/{run_id}/artifacts"):
            content = BytesIO()
            here.api.download(f"/artifacts/{artifact['id']}/content", content)
            assert hashlib.sha256(content.getvalue()).hexdigest() == artifact["sha256"], artifact
            artifacts[f"{run_id}/{artifact['name']}"] = artifact["sha256"]
    assert len(artifacts) >= 2 * len(runs), artifacts
    return verdicts, artifacts


def upgraded(here: Installation, runs: list[int], before: tuple[Any, dict[str, str]]) -> None:
    """After a backup, a version that migrates the database says the same; the version before refuses that database."""
    here.documented("deployment.md", "Backup")
    old, new = here.environment["VEZNA_TAG"], f"{here.environment['VEZNA_TAG']}-next"
    migration = here.folder / "next" / "9999_next.py"
    migration.parent.mkdir()
    migration.write_text(MIGRATION.format(head=migrate.head()))
    for image in ("vezna-web", "vezna-worker"):
        (migration.parent / "Dockerfile").write_text(NEXT.format(image=f"{image}:{old}"))
        run("docker", "build", "--tag", f"{image}:{new}", str(migration.parent))
    here.environment["VEZNA_TAG"] = new
    here.up("--remove-orphans")
    assert (
        run("docker", "inspect", "--format", "{{.Config.Image}}", here.container("web")).stdout == f"vezna-web:{new}\n"
    )
    assert decided(here, runs) == before
    here.environment["VEZNA_TAG"] = old
    with suppress(Failed):
        here.up()
        raise AssertionError("the version before started on the database of the new one")
    refusal = here.compose("logs", "--no-color", "migrate")
    assert "A newer version of Vezna has migrated the database to 9999" in " ".join(refusal.split()), refusal


def restored(here: Installation, runs: list[int], before: tuple[Any, dict[str, str]]) -> None:
    """The backup is restored into an empty installation, and says the same."""
    here.down()
    here.documented("deployment.md", "Restore")
    here.up()
    assert decided(here, runs) == before
