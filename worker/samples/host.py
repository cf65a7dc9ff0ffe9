"""Resolves the location from which this worker loads a base model. A packaged sample in GGUF is converted on first use,
and the model of the sample of images trained, into `samples/` of VEZNA_HOME."""

import fcntl
import hashlib
import json
import sys
from pathlib import Path

import structlog

from app.domain.errors import Unavailable
from app.samples import samples as sample
from app.services.models.models import SAMPLE
from worker.children.host import Child, ChildError, ChildInterrupted

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "worker.samples.child")
CONVERSION_SECONDS = 600.0
DIGITS_VERSION = 2
"""Raised when the training of the model of digits changes."""
"""SmolLM2-135M takes half a minute of one core."""


def load_from(source: str, location: str, home: Path, command: tuple[str, ...] = COMMAND) -> str:
    """A directory, or a hub id. Raises Unavailable if the sample is not installed here or cannot be converted."""
    if source != "sample":
        return location
    if location == "digits":
        return str(_made({"digits": True}, home / "samples" / f"digits-vit-{DIGITS_VERSION}", command))
    if location != "smollm2":
        return str(sample.model_directory())
    file = sample.language_model_file()
    return str(_made({"file": str(file)}, home / "samples" / f"{file.stem}-{_digest(file)}", command))


def located(reference: str, home: Path) -> str:
    """The same for a reference, as `app.services.models.models.reference_of` writes it."""
    if reference.startswith(SAMPLE):
        return load_from("sample", reference.removeprefix(SAMPLE), home)
    return reference


def _digest(file: Path) -> str:
    """The start of a hash of the file's size and first MiB, which tells versions of the package apart."""
    with file.open("rb") as stream:
        return hashlib.sha256(str(file.stat().st_size).encode() + stream.read(1 << 20)).hexdigest()[:8]


def _made(source: dict[str, object], directory: Path, command: tuple[str, ...]) -> Path:
    """The directory with the model. Workers that share a home make it once."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.is_dir():
            log.info("making the sample's model", directory=str(directory), **source)
            _make(source | {"directory": str(directory)}, command)
    return directory


def _make(request: dict[str, object], command: tuple[str, ...]) -> None:
    try:
        answer = Child.ask_once("conversion", command, request, CONVERSION_SECONDS, json.loads)
    except ChildInterrupted:
        raise
    except ChildError as error:
        raise Unavailable(error.message) from error
    if "error" in answer:
        raise Unavailable(answer["error"])
