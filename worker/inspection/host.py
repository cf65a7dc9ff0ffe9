"""Inspect a base model in a child process (`worker.inspection.child`), with a deadline and a memory limit."""

import json
import sys

import structlog

from app.domain.models.base_model import ModelFacts
from app.domain.models.hub_access import HubAccess
from app.services.models.models import INSPECTION_SECONDS
from worker.children.host import Child, ChildError, ChildInterrupted

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "worker.inspection.child")


def inspect_model(
    location: str, revision: str, hub: HubAccess | None = None, *, command: tuple[str, ...] = COMMAND
) -> ModelFacts | str:
    """The facts of a model, or a sentence that says why there are none. Raises ChildInterrupted."""
    request = {"location": location, "revision": revision, "hub": hub.model_dump() if hub else None}
    try:
        return Child.ask_once("inspection", command, request, INSPECTION_SECONDS, _parsed)
    except ChildInterrupted:
        raise
    except ChildError as error:
        log.error("inspection failed", location=location, why=error.message, cause=str(error.__cause__ or ""))
        return error.message


def _parsed(line: bytes) -> ModelFacts | str:
    answer = json.loads(line)
    return str(answer["error"]) if "error" in answer else ModelFacts.model_validate(answer)
