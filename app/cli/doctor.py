"""`vezna doctor`: checks this installation, and says what is wrong with it and what to do."""

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

import typer
from packaging.requirements import Requirement
from pydantic import BaseModel, SecretStr
from sqlalchemy.exc import SQLAlchemyError

from app.cli.client import without_credentials
from app.cli.shared import Json, show
from app.cli.terminal.workers import gpu_words
from app.domain.errors import Invalid, Unavailable
from app.queue import Doorbell
from app.services import workers as worker_service
from app.settings import Settings, load
from app.store import migrate
from app.store.files import Files
from app.store.queries import clock, runs
from app.store.session import Database

State = Literal["ok", "warning", "problem"]
OLDEST_PYTHON = (3, 11)
LITTLE_DISK, NO_DISK = 5 << 30, 1 << 30
LITTLE_TEMPORARY, NO_TEMPORARY = 128 << 20, 32 << 20
"""Runs, uploads and models use `home`; a container has 256 MiB (web) or 1 GiB (worker) for temporary files."""
SKEW_SECONDS = 5.0
PROBE_SECONDS = 180.0
PROBE = (sys.executable, "-P", "-m", "worker.probe")
WORKER_PACKAGES = ("torch", "transformers", "peft")


@dataclass(frozen=True)
class Finding:
    """What a check has found."""

    check: str
    state: State
    message: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """`problem  broker: it does not answer. Start it …`"""
        return f"{self.state:<8} {self.check}: {self.message}." + (f" {self.remedy}." if self.remedy else "")


class _Card(BaseModel):
    """What `worker.probe` prints of a GPU."""

    uuid: str
    name: str
    problem: str


class _Probe(BaseModel):
    """What it prints."""

    cards: list[_Card]
    problem: str


def doctor(as_json: Json = False) -> None:
    """Check this installation: libraries, disk, permissions, database, broker, files, workers, GPU and clocks. The exit
    status is 1 if something is wrong."""
    findings = list(examine())
    show([asdict(finding) for finding in findings], as_json)
    if not as_json:
        show(findings, False, lambda findings: [finding.line for finding in findings], wrap=False)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Every finding, as it is made."""
    yield python()
    yield from libraries()
    try:
        settings = load()
    except Invalid as error:
        yield Finding("settings", "problem", error.message.rstrip("."), "Correct the variable: docs/configuration.md")
        return
    settings = of_running_stack(settings)
    yield from home(settings)
    yield from database(settings)
    yield broker(settings)
    yield files(settings)
    yield from gpu(settings)


def python() -> Finding:
    """The interpreter."""
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", "problem", f"Python {platform.python_version()} is too old", "Install 3.11 or newer")
    return Finding("python", "ok", f"Python {platform.python_version()} at {sys.executable}")


def libraries() -> Iterator[Finding]:
    """Installed versions against those that Vezna needs; the worker's only where it is installed."""
    try:
        needed = [Requirement(line) for line in requires("vezna") or ()]
    except PackageNotFoundError:
        yield Finding("libraries", "warning", "Vezna is not installed as a package", "Run: pip install -e .")
        return
    worker = _trains()
    extras = ["", *(["worker"] if worker else [])]
    wrong = []
    for requirement in needed:
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        found = _installed(requirement.name)
        if found is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} is not {requirement.specifier}")
    if wrong:
        extra = "[worker]" if worker else ""
        yield Finding("libraries", "problem", "; ".join(wrong), f"Run: pip install --upgrade 'vezna{extra}'")
    else:
        shown = ", ".join(f"{name} {_installed(name)}" for name in WORKER_PACKAGES) if worker else "no worker here"
        yield Finding("libraries", "ok", f"vezna {version('vezna')}; {shown}")


def _trains() -> bool:
    return all(_installed(name) for name in WORKER_PACKAGES)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def of_running_stack(settings: Settings) -> Settings:
    """With the broker of `vezna up`, if that runs in this home: its port and password are of this start."""
    configuration = settings.home / "broker" / "valkey.conf"
    try:
        with (settings.home / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return settings
            except BlockingIOError:
                text = configuration.read_text()
    except OSError:
        return settings
    port, password = (re.search(rf"^{name} (\S+)$", text, re.MULTILINE) for name in ("port", "requirepass"))
    if not port or not password:
        return settings
    return settings.model_copy(update={"broker_url": SecretStr(f"redis://:{password[1]}@127.0.0.1:{port[1]}/0")})


def home(settings: Settings) -> Iterator[Finding]:
    """Whether the home directory can be written where this process needs it, and the space there and for temporary
    files."""
    there = next(place for place in (settings.home, *settings.home.parents) if place.exists())
    if os.access(there, os.W_OK | os.X_OK):
        missing = "" if there == settings.home else ", not there yet"
        yield Finding("home", "ok", f"{settings.home} is writable{missing}")
        yield space("disk", there, LITTLE_DISK, NO_DISK)
    elif settings.database_url.get_secret_value() and settings.files_url and not _trains():
        yield Finding("home", "ok", f"{there} is not writable; database and files are elsewhere, so nothing needs it")
    else:
        yield Finding("home", "problem", f"{there} is not writable", "Change its permissions, or set VEZNA_HOME")
    yield space("temporary files", Path(tempfile.gettempdir()), LITTLE_TEMPORARY, NO_TEMPORARY)


def space(check: str, place: Path, little: int, none: int) -> Finding:
    """The free space of a disk: a warning below `little` bytes, a problem below `none`."""
    free = shutil.disk_usage(place).free
    state: State = "problem" if free < none else "warning" if free < little else "ok"
    said = f"{free / 2**30:.1f} GiB free in {place}"
    return Finding(check, state, said, "" if state == "ok" else "Delete files there, or use a larger disk")


def database(settings: Settings) -> Iterator[Finding]:
    """Connection and revision of the database; then what it says of workers, and its clock."""
    file = Path(settings.database.removeprefix("sqlite:///"))
    sqlite = settings.database.startswith("sqlite")
    if sqlite and not file.exists():
        yield Finding("database", "problem", f"There is no database {file}", "Run: vezna migrate, or vezna up")
        return
    if sqlite and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        yield Finding("database", "problem", f"{file} or its directory is not writable", "Change their permissions")
        return
    with ExitStack() as at_end:
        opened = Database(settings.database)
        at_end.callback(opened.dispose)
        try:
            migrate.require_current(opened)
            yield Finding("database", "ok", f"{'SQLite' if sqlite else 'PostgreSQL'} at revision {migrate.head()}")
            yield from workers(opened, settings)
            if not sqlite:  # its clock is this machine's: the time since boot
                yield skew(opened)
        except Unavailable as error:
            yield Finding("database", "problem", error.message.rstrip("."), "Make a backup first")
        except SQLAlchemyError as error:
            why = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
            yield Finding(
                "database", "problem", f"It does not answer: {why}", "Start it, or correct VEZNA_DATABASE_URL"
            )


def workers(database: Database, settings: Settings) -> Iterator[Finding]:
    """Workers by their heartbeats, and whether the control node rings for what waits."""
    with database.reading() as session:
        known = worker_service.live(session, settings)
        late = clock.now(session) - timedelta(seconds=2 * (settings.ring_again_seconds + settings.sweep_seconds))
        waiting = len(runs.to_ring_again(session, late, lock=False))
    start = "Start one: vezna up, or celery -A worker.celery worker -Q train"
    if not any(view.state != "lost" for view in known):
        yield Finding("workers", "problem", "No worker that trains is running", start)
    for view in known:
        said = f"{view.name} is {view.state}, heartbeat {view.seconds_since_heartbeat:.0f} s ago{gpu_words(view)}"
        if view.state == "lost":
            yield Finding("workers", "warning", said, "Start it again, or ignore it if it was removed")
        elif view.problem:
            yield Finding("workers", "warning", f"{said}; {view.problem.rstrip('.')}", "Mend its GPU, then restart it")
        else:
            yield Finding("workers", "ok", said)
        for gpu in (gpu for gpu in view.devices if gpu.problem and view.state != "lost"):
            yield Finding("workers", "warning", f"{view.name} lost {gpu.name} ({gpu.uuid})", gpu.problem.rstrip("."))
    if waiting and any(view.takes_runs for view in known):
        said = f"{waiting} queued runs wait, though a worker could take one: no control node sweeps"
        yield Finding("control", "problem", said, "Start it: celery -A worker.celery worker -Q control")


def skew(database: Database) -> Finding:
    """This machine's clock against the database's. Leases use the database's; times on pages come from all hosts."""
    with database.reading() as session:
        before, theirs, after = datetime.now(UTC), clock.now(session), datetime.now(UTC)
    off = (theirs - before - (after - before) / 2).total_seconds()
    if abs(off) <= SKEW_SECONDS:
        return Finding("clock", "ok", f"The database's clock differs by {abs(off):.1f} s")
    said = f"The database's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's"
    return Finding("clock", "warning", said, "Synchronize both by NTP: no run is lost, but times shown are wrong")


def broker(settings: Settings) -> Finding:
    """Whether the broker answers."""
    if Doorbell(settings).answers():
        return Finding("broker", "ok", "It answers")
    return Finding(
        "broker", "problem", "It does not answer", "Start it (vezna up has its own), or correct VEZNA_BROKER_URL"
    )


def files(settings: Settings) -> Finding:
    """Whether a file can be written to the store, read and removed."""
    content, where = b"vezna doctor", without_credentials(settings.files)
    try:
        store = Files(settings.files)
        with store.receive(len(content)) as incoming:
            incoming.write(content)
            name = incoming.done().file
        same = b"".join(store.chunks(name)) == content
        store.remove(name)
    except Exception as error:  # every kind of store has its own
        why = " ".join(str(error).replace(settings.files, where).split()).rstrip(".") or type(error).__name__
        return Finding("files", "problem", f"{where}: {why}", "Check VEZNA_FILES_URL, permissions and credentials")
    if not same:
        return Finding("files", "problem", f"{where} returns other bytes than were written", "Use another store")
    return Finding("files", "ok", f"{where} can be written and read")


def gpu(settings: Settings, run: Callable[..., Any] = subprocess.run) -> Iterator[Finding]:
    """What torch sees, in a process of its own: a broken driver may hang or crash it."""
    if _installed("torch") is None:
        return
    try:
        done = run(PROBE, capture_output=True, timeout=PROBE_SECONDS, check=True)
        probe = _Probe.model_validate_json(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        yield Finding("gpu", "problem", f"torch cannot be used: {error}", "Reinstall torch and check the driver")
        return
    for card in probe.cards:
        if card.problem:
            yield Finding(
                "gpu", "problem", f"{card.name}: {card.problem.rstrip('.')}", "Install a matching torch or driver"
            )
        else:
            yield Finding("gpu", "ok", f"{card.name} works ({card.uuid})")
    if settings.device == "cuda" and all(card.problem for card in probe.cards):
        yield Finding("gpu", "problem", probe.problem or "No GPU works", "Mend it, or set VEZNA_DEVICE=cpu")
    elif not probe.cards:
        yield Finding("gpu", "ok", f"No GPU, training runs on the CPU ({probe.problem.rstrip('.')})")
