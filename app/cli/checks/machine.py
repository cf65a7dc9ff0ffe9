"""Checks of this machine: the interpreter, libraries, disk, GPU."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from pydantic import BaseModel

from app.cli.checks.finding import Finding, State
from app.settings import Settings
from app.words.format import file_size
from app.words.i18n import gettext as _
from app.words.i18n import stored

OLDEST_PYTHON = (3, 11)
LITTLE_DISK, NO_DISK = 5 << 30, 1 << 30
LITTLE_TEMPORARY, NO_TEMPORARY = 128 << 20, 32 << 20
"""Runs, uploads and models use `home`; a container has 256 MiB (web) or 1 GiB (worker) for temporary files."""
PROBE_SECONDS = 180.0
PROBE = (sys.executable, "-P", "-m", "worker.machine.probe")
WORKER_PACKAGES = ("torch", "transformers", "peft")


class _Card(BaseModel):
    """What `worker.machine.probe` prints of a GPU."""

    uuid: str
    name: str
    problem: str


class _Probe(BaseModel):
    cards: list[_Card]
    problem: str


def python() -> Finding:
    if sys.version_info < OLDEST_PYTHON:
        return Finding(
            "python",
            "problem",
            _("Python %(version)s is too old", version=platform.python_version()),
            _("Install 3.11 or newer"),
        )
    return Finding(
        "python",
        "ok",
        _("Python %(version)s at %(path)s", version=platform.python_version(), path=sys.executable),
    )


def libraries() -> Iterator[Finding]:
    """Installed versions against those that Vezna needs; the worker's only where it is installed."""
    try:
        needed = [Requirement(line) for line in requires("vezna") or ()]
    except PackageNotFoundError:
        yield Finding("libraries", "warning", _("Vezna is not installed as a package"), _("Run: pip install -e ."))
        return
    worker = _trains()
    extras = ["", *(["worker"] if worker else [])]
    wrong = []
    for requirement in needed:
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        found = _installed(requirement.name)
        if found is None:
            wrong.append(_("%(name)s is missing", name=requirement.name))
        elif not requirement.specifier.contains(found, prereleases=True):
            wrong.append(
                _(
                    "%(name)s %(version)s is not %(needed)s",
                    name=requirement.name,
                    version=found,
                    needed=requirement.specifier,
                )
            )
    if wrong:
        extra = "[worker]" if worker else ""
        yield Finding(
            "libraries",
            "problem",
            "; ".join(wrong),
            _("Run: pip install --upgrade '%(package)s'", package=f"vezna{extra}"),
        )
    else:
        shown = ", ".join(f"{name} {_installed(name)}" for name in WORKER_PACKAGES) if worker else _("no worker here")
        yield Finding("libraries", "ok", f"vezna {version('vezna')}; {shown}")


def _trains() -> bool:
    return all(_installed(name) for name in WORKER_PACKAGES)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def home(settings: Settings) -> Iterator[Finding]:
    """Whether the home directory can be written where this process needs it, and the space there and for temporary
    files."""
    there = next(place for place in (settings.home, *settings.home.parents) if place.exists())
    if os.access(there, os.W_OK | os.X_OK):
        if there == settings.home:
            yield Finding("home", "ok", _("%(home)s is writable", home=settings.home))
        else:
            yield Finding("home", "ok", _("%(home)s is writable, not there yet", home=settings.home))
        yield space("disk", there, LITTLE_DISK, NO_DISK)
    elif settings.database_url.get_secret_value() and settings.files_url and not _trains():
        yield Finding(
            "home",
            "ok",
            _("%(there)s is not writable; database and files are elsewhere, so nothing needs it", there=there),
        )
    else:
        yield Finding(
            "home",
            "problem",
            _("%(there)s is not writable", there=there),
            _("Change its permissions, or set VEZNA_HOME"),
        )
    yield space("temporary files", Path(tempfile.gettempdir()), LITTLE_TEMPORARY, NO_TEMPORARY)


def space(check: str, place: Path, little: int, none: int) -> Finding:
    """The free space of a disk: a warning below `little` bytes, a problem below `none`."""
    free = shutil.disk_usage(place).free
    state: State = "problem" if free < none else "warning" if free < little else "ok"
    said = _("%(free)s free in %(place)s", free=file_size(free), place=place)
    return Finding(check, state, said, "" if state == "ok" else _("Delete files there, or use a larger disk"))


def gpu(settings: Settings, run: Callable[..., Any] = subprocess.run) -> Iterator[Finding]:
    """What torch sees, in a process of its own: a broken driver may hang or crash it."""
    if _installed("torch") is None:
        return
    try:
        done = run(PROBE, capture_output=True, timeout=PROBE_SECONDS, check=True)
        probe = _Probe.model_validate_json(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        yield Finding(
            "gpu",
            "problem",
            _("torch cannot be used: %(why)s", why=error),
            _("Reinstall torch and check the driver"),
        )
        return
    for card in probe.cards:
        if card.problem:
            yield Finding(
                "gpu",
                "problem",
                f"{card.name}: {stored(card.problem).rstrip('.')}",
                _("Install a matching torch or driver"),
            )
        else:
            yield Finding("gpu", "ok", _("%(name)s works (%(uuid)s)", name=card.name, uuid=card.uuid))
    if settings.device == "cuda" and all(card.problem for card in probe.cards):
        yield Finding(
            "gpu", "problem", stored(probe.problem) or _("No GPU works"), _("Mend it, or set VEZNA_DEVICE=cpu")
        )
    elif not probe.cards:
        yield Finding(
            "gpu", "ok", _("No GPU, training runs on the CPU (%(why)s)", why=stored(probe.problem).rstrip("."))
        )
