"""The Docker engine that `make containers` uses: the one that runs here, or one of its own that leaves nothing behind.

Its own lives in namespaces for processes, mounts and (once the images are built) the network, so that it meets no other
engine, listens nowhere on this machine, and ends with the script whatever ends that.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PACKAGES = {
    "dockerd": "docker.io",
    "docker": "docker-cli",
    "containerd": "containerd",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "iptables": "iptables",
    "unshare": "util-linux",
}
"""Debian's packages by the program that each has; docker-compose and docker-buildx are plugins."""
PLUGINS = {"compose": "docker-compose", "buildx": "docker-buildx"}
CLONE_NEWNET = 0x40000000
NAMESPACES = ("unshare", "--mount", "--pid", "--mount-proc", "--kill-child", "--fork", "--")
INSIDE = "VEZNA_CONTAINERS_INSIDE"
START_SECONDS = 60.0
PROBE = """FROM {image}
RUN apt-get update -qq -o APT::Update::Error-Mode=any && python -m pip download --quiet --no-deps --dest /tmp wheel
"""
"""Reaches everything that the builds download from."""


class Skip(Exception):
    """Why there can be no check here."""


class Failed(Exception):
    """A command that failed, with the end of its output."""


def run(
    *command: str, seconds: float = 900, environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its output. Raises Failed."""
    with subprocess.Popen(
        command,
        env=os.environ | (environment or {}),
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.STDOUT if "stderr" not in options else options.pop("stderr"),
        text=True,
        **options,
    ) as process:
        try:
            output, _errors = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Failed(f"{' '.join(command)} ended with {process.returncode}:\n{(output or '')[-6000:]}")
    return subprocess.CompletedProcess(command, process.returncode, output or "", "")


def answers() -> bool:
    """Whether an engine answers to the command line as it is set up here."""
    if not shutil.which("docker"):
        return False
    with suppress(Failed, subprocess.TimeoutExpired):
        return bool(run("docker", "version", "--format", "{{.Server.Version}}", seconds=30).stdout.strip())
    return False


def require() -> None:
    """Make sure that an engine can be started here; in CI, as root on Debian, install what is missing. Raises Skip."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise Skip("no Docker engine answers, and only root can start one")
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program)]
    if "docker-cli" not in missing:
        missing += [package for plugin, package in PLUGINS.items() if not _has_plugin(plugin)]
    else:
        missing += PLUGINS.values()
    if not missing:
        return
    if not (os.environ.get("CI") and shutil.which("apt-get")):
        raise Skip(f"no Docker engine answers, and to start one these are missing: {', '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run("apt-get", "update", "-qq", environment=quiet)
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, environment=quiet)
    except (Failed, subprocess.TimeoutExpired) as error:
        raise Skip(f"no Docker engine answers, and the packages of one could not be installed: {error}") from error


@contextmanager
def needed(what: str) -> Iterator[None]:
    """What an engine and its containers need of this machine: a failure of it is no defect of Vezna. Raises Skip."""
    try:
        yield
    except (Failed, OSError, subprocess.TimeoutExpired) as error:
        raise Skip(f"{what}: {error}") from error


def require_builds(image: str, options: Sequence[str]) -> None:
    """Make sure that an image can be built here, from what the network has. Raises Skip."""
    with needed("no image can be built here that downloads packages"), TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(PROBE.format(image=image))
        run("docker", "build", "--no-cache", *options, folder, seconds=300)


def require_containers(image: str) -> None:
    """Make sure that a container runs here as those of the compose file do, in a network of its own. Raises Skip."""
    network = f"vezna-probe-{os.getpid()}"
    options = [
        "--rm",
        "--network",
        network,
        "--publish",
        "127.0.0.1::8000",
        "--read-only",
        "--memory",
        "256m",
        "--init",
    ]
    with needed("the engine runs no container here"):
        run("docker", "network", "create", network, seconds=60)
        try:
            run("docker", "run", *options, "--cap-drop", "ALL", image, "true", seconds=120)
        finally:
            run("docker", "network", "rm", network, seconds=60)


def _has_plugin(name: str) -> bool:
    try:
        run("docker", name, "version", seconds=30)
    except Failed:
        return False
    return True


def alone(command: Sequence[str], root: Path) -> int:
    """Run a command in namespaces of its own for processes and mounts, and clear away what a killed engine leaves.
    Raises Skip."""
    group = f"vezna-containers-{os.getpid()}"
    temporary = root / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = os.environ | {INSIDE: group, "DOCKER_HOST": f"unix://{root}/docker.sock", "TMPDIR": str(temporary)}
    state = Path("/run/containerd")  # of containerd's helpers, always there; hidden behind an empty one
    made = not state.exists()
    with needed("no Docker engine answers, and this machine allows no namespaces for one"):
        run(*NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", str(temporary), seconds=30)
        state.mkdir(exist_ok=True)
    process = subprocess.Popen([*NAMESPACES, *command], env=environment)
    try:
        return process.wait()
    finally:
        process.kill()  # and with it, by the kernel, everything in its namespace
        process.wait()
        if made:
            state.rmdir()
        for folder in sorted(Path("/sys/fs/cgroup").glob(f"**/{group}/**/"), reverse=True):
            _remove_cgroup(folder)
        for folder in Path("/sys/fs/cgroup").glob(f"**/{group}/"):
            _remove_cgroup(folder)


def _remove_cgroup(folder: Path, seconds: float = 5) -> None:
    """The kernel takes a moment to see that a group's last process has gone."""
    deadline = time.monotonic() + seconds
    while folder.is_dir() and time.monotonic() < deadline:
        with suppress(OSError):
            folder.rmdir()
        time.sleep(0.05)


class Daemon:
    """dockerd on data of its own; to be used inside of `alone`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._process: subprocess.Popen[bytes] | None = None
        with needed("no Docker engine can be started here"):
            run("mount", "-t", "tmpfs", "tmpfs", "/run/containerd")

    def start(self, *, network: bool) -> None:
        """Start it: without networks for containers, to build on this machine's, or in one apart. Raises Skip."""
        if network:
            with needed("no network namespace can be made here"):
                if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                run("ip", "link", "set", "lo", "up")
        options = [] if network else ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        (self.root / "daemon.json").write_text("{}")
        where = {
            "--config-file": self.root / "daemon.json",
            "--data-root": self.root / "data",
            "--exec-root": self.root / "exec",
            "--pidfile": self.root / "docker.pid",
            "--host": f"unix://{self.root}/docker.sock",
            "--cgroup-parent": f"/{os.environ[INSIDE]}",
        }
        command = ["dockerd", *(f"{name}={value}" for name, value in where.items()), *options]
        with (self.root / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                lines = (self.root / "dockerd.log").read_text().splitlines()[-20:]
                raise Skip("\n".join(["dockerd does not start here; its last lines:", *lines]))
            time.sleep(0.2)

    def stop(self) -> None:
        """End it and its containers."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
