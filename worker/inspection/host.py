"""Inspect a base model in a child process (`worker.inspection.child`), with a deadline and a memory limit."""

import json
import sys

import structlog

from app.domain.models.base_model import ModelFacts
from app.services.models import INSPECTION_SECONDS
from worker.children.host import Child, ChildError

log = structlog.get_logger()

COMMAND = (sys.executable, "-P", "-m", "worker.inspection.child")


def inspect_model(location: str, revision: str, *, command: tuple[str, ...] = COMMAND) -> ModelFacts | str:
    """The facts of a model, or a sentence that says why there are none."""
    try:
        child = Child("inspection", command, environment={"CUDA_VISIBLE_DEVICES": ""})
    except ChildError as error:
        return error.message
    try:
        child.send(json.dumps({"location": location, "revision": revision}).encode(), INSPECTION_SECONDS)
        answer = json.loads(child.receive(INSPECTION_SECONDS))
        return str(answer["error"]) if "error" in answer else ModelFacts.model_validate(answer)
    except ChildError as error:
        log.error("inspection failed", location=location, why=error.message)
        return error.message
    except ValueError as error:
        log.error("inspection failed", location=location, why=str(error))
        return child.unreadable().message
    finally:
        child.close()
