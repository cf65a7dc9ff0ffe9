"""`make containers`: builds both images, brings docker-compose.yml up unchanged, and does what an operator does.

It uses the Docker engine that answers here, in a project of its own. Without one, root on Linux starts one that nothing
else sees (`engine.py`); anybody else is told why there is no check. VEZNA_CONTAINERS=folder keeps that engine's data
there, so that the next build is warm.

A step that fails makes it fail, and so does the limit of its time (VEZNA_CONTAINERS_SECONDS), unless the caller had
less left than usual (VEZNA_CONTAINERS_CUT). What this machine lacks does not: that is said, with what was done until
then.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

import httpx2
import yaml

from app.domain.errors import VeznaError
from app.settings import ROOT
from tests.containers import bases, engine, steps
from tests.containers.engine import INSIDE, Daemon, Failed, Skip, run

LIMIT_SECONDS = float(os.environ.get("VEZNA_CONTAINERS_SECONDS", 40 * 60))
END_SECONDS = 60
"""What an interrupted engine and its containers have to end."""
LEAST_FREE_BYTES = 12 << 30
T = TypeVar("T")
times: list[tuple[str, float]] = []
current = "the preparation"


class LimitReached(BaseException):
    """The time is over."""


def timed(name: str, work: Callable[..., T], *arguments: Any) -> T:
    """Do it, say so, and remember how long it took."""
    global current
    current = name
    print(f"== {name}", flush=True)
    began = time.monotonic()
    done = work(*arguments)
    times.append((name, time.monotonic() - began))
    print(f"   {times[-1][1]:.0f} s", flush=True)
    return done


def base_images() -> list[str]:
    """What Dockerfile and compose file begin from."""
    [argument] = [
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("ARG PYTHON_IMAGE=")
    ]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return [argument.partition("=")[2], *(services[name]["image"] for name in ("postgres", "redis"))]


def build(target: str, tag: str, ours: bool, index: str) -> None:
    """One image, as docker-compose.yml has it built; once more, from where it broke off, if a download failed."""
    options = ["--build-arg", f"TORCH_INDEX_URL={index}"] if target == "worker" and index else []
    command = ["docker", "build", *options, *_network(ours), "--target", target, "--tag", f"vezna-{target}:{tag}"]
    try:
        run(*command, str(ROOT), seconds=1500)
    except Failed as error:
        print(f"   once more: {error}", flush=True)
        run(*command, str(ROOT), seconds=1500)


def _network(ours: bool) -> list[str]:
    return ["--network", "host"] if ours else []


def images(root: Path, tag: str, ours: bool) -> None:
    """Both images, from official base images or from stand-ins."""
    names = base_images()
    for name, had in timed("base images", bases.provide, names, ours).items():
        print(f"   {name}: {had}")
    timed("a first build, of what the others need", engine.require_builds, names[0], _network(ours))
    index, server = os.environ.get("TORCH_INDEX_URL", ""), None
    if not index and ours and (folder := timed("torch's CPU build", bases.torch_index, root)):
        command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "8899", "--directory", str(root)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        index = f"http://127.0.0.1:8899/{folder}"
    try:
        for target in ("web", "worker"):
            timed(f"build of {target}", build, target, tag, ours, index)
    finally:
        if server:
            server.kill()
    for target in ("web", "worker"):
        size = int(run("docker", "image", "inspect", "--format", "{{.Size}}", f"vezna-{target}:{tag}").stdout)
        print(f"   vezna-{target}: {size / 1e6:.0f} MB")


def check(name: str, tag: str) -> None:
    """The steps of an operator, in order."""
    timed("a first container", engine.require_containers, base_images()[0])
    with steps.installation(name, tag) as here:
        timed("up, from nothing until all is healthy", steps.started, here)
        runs = timed("base model, dataset and study submitted", steps.submitted, here)
        lost = timed("worker killed in a run, and started again", steps.killed, here, runs)
        took = timed("worker stopped and started", steps.stopped, here, runs)
        print(f"   of these, stopping took {took:.1f} s")
        timed("two workers", steps.scaled, here)
        before = timed("the study ends", steps.decided, here, runs)
        assert here.api.get(f"/runs/{lost}")["attempt"] >= 2
        timed("backup, a version that migrates the database, and back", steps.upgraded, here, runs, before)
        timed("restore into an empty installation", steps.restored, here, runs, before)
        print(f"   verdicts: {[verdict and verdict['kind'] for verdict in before[0]]}, {len(before[1])} artifacts")


def inside(root: Path) -> None:
    """All of it, with an engine of our own."""
    daemon = Daemon(root)
    try:
        timed("engine started, to build", lambda: daemon.start(network=False))
        images(root, "check", ours=True)
        daemon.stop()
        timed("engine started, in a network apart", lambda: daemon.start(network=True))
        check("vezna-check", "check")
    finally:
        daemon.stop()


def on_this_machines_engine() -> None:
    """All of it, with the engine that answers; only what was made is removed."""
    name = tag = f"vezna-check-{os.getpid()}"
    folder = Path(mkdtemp(prefix="vezna-containers-"))
    try:
        images(folder, tag, ours=False)
        check(name, tag)
    finally:
        shutil.rmtree(folder)
        for image in (f"{name}:{tag}{version}" for name in ("vezna-web", "vezna-worker") for version in ("-next", "")):
            subprocess.run(["docker", "image", "rm", image], capture_output=True, check=False)


def outside() -> int:
    """Start this program again with an engine of its own."""
    engine.require()
    kept = os.environ.get("VEZNA_CONTAINERS")
    root = Path(kept or mkdtemp(prefix="vezna-containers-")).resolve()
    root.mkdir(exist_ok=True)
    if not kept and shutil.disk_usage(root).free < LEAST_FREE_BYTES:
        root.rmdir()
        raise Skip(f"{root.parent} has less than {LEAST_FREE_BYTES >> 30} GiB free")
    try:
        return engine.alone([sys.executable, "-m", "tests.containers", str(root)], root)
    finally:
        if not kept:
            shutil.rmtree(root)


def interrupted(number: int, _frame: object) -> None:
    """End in order, by the `finally`s."""
    raise LimitReached if number == signal.SIGALRM else SystemExit(f"make containers: signal {number}")


def main() -> int:
    """0 if all is well or nothing can be checked here, else 1."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, interrupted)
    try:
        if os.environ.get(INSIDE):
            signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
            inside(Path(sys.argv[1]))
        elif engine.answers():
            signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
            on_this_machines_engine()
        else:
            signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS + END_SECONDS)
            return outside()
    except Skip as why:
        print(f"make containers: SKIPPED, {_done()}: {why}")
        return 0
    except LimitReached:
        print(f"make containers: NOT FINISHED in {LIMIT_SECONDS:.0f} s, ended in “{current}”; {_done()}")
        return 0 if os.environ.get("VEZNA_CONTAINERS_CUT") else 1
    except (Failed, AssertionError, VeznaError, subprocess.TimeoutExpired, httpx2.HTTPError) as error:
        print(f"make containers: FAILED in “{current}”: {error!r}", file=sys.stderr)
        return 1
    print("\n".join(["| step | seconds |", "|---|---|", *(f"| {name} | {took:.0f} |" for name, took in times)]))
    return 0


def _done() -> str:
    return f"all well until then ({', '.join(name for name, _took in times)})" if times else "nothing was checked"


if __name__ == "__main__":
    raise SystemExit(main())
