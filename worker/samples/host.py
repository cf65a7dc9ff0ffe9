"""Resolves the location from which this worker loads a base model. A packaged sample in GGUF is converted on first use,
into `samples/` of VEZNA_HOME."""

import fcntl
import hashlib
import json
import sys
from pathlib import Path

import structlog

from app import sample
from app.domain.errors import Unavailable
from app.services.models import SAMPLE
from worker.children.host import Child, ChildError, ChildInterrupted

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "worker.samples.child")
CONVERSION_SECONDS = 600.0
"""SmolLM2-135M takes half a minute of one core."""


def load_from(source: str, location: str, home: Path, command: tuple[str, ...] = COMMAND) -> str:
    """A directory, or a hub id. Raises Unavailable if the sample is not installed here or cannot be converted."""
    if source != "sample":
        return location
    if location != "smollm2":
        return str(sample.model_directory())
    file = sample.language_model_file()
    return str(_converted(file, home / "samples" / f"{file.stem}-{_digest(file)}", command))


def located(reference: str, home: Path) -> str:
    """The same for a reference, as `app.services.models.reference_of` writes it."""
    if reference.startswith(SAMPLE):
        return load_from("sample", reference.removeprefix(SAMPLE), home)
    return reference


def _digest(file: Path) -> str:
    """The start of a hash of the file's size and first MiB, which tells versions of the package apart."""
    with file.open("rb") as stream:
        return hashlib.sha256(str(file.stat().st_size).encode() + stream.read(1 << 20)).hexdigest()[:8]


def _converted(file: Path, directory: Path, command: tuple[str, ...]) -> Path:
    """The directory with the converted model. Workers that share a home convert it once."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.is_dir():
            log.info("converting the packaged model", file=file.name, directory=str(directory))
            _convert(file, directory, command)
    return directory


def _convert(file: Path, directory: Path, command: tuple[str, ...]) -> None:
    request = {"file": str(file), "directory": str(directory)}
    try:
        answer = Child.ask_once("conversion", command, request, CONVERSION_SECONDS, json.loads)
    except ChildInterrupted:
        raise
    except ChildError as error:
        raise Unavailable(error.message) from error
    if "error" in answer:
        raise Unavailable(answer["error"])
