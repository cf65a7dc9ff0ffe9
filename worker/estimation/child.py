"""The estimation process: `python -P -m worker.estimation.child`, kept warm by `worker.estimation.host`.

    stdin    one request a line: {"run": EstimateRequest, "dataset": path or null}, {"map": MapRequest},
             {"preview": PreviewRequest, "dataset": path}, {"baseline": BaselineRequest, "dataset": path} or
             {"computation": Computation, "feature": its name, "files": paths by field}; each with "hub": HubAccess
             or null
    stdout   one answer a line: {"run": ResourceEstimate}, {"map": MemoryMap}, {"preview": Preview},
             {"baseline": Baseline}, {"computation": its answer} or {"error": a sentence, "internal": true if it is
             Vezna's}
    stderr   library output, and tracebacks

It imports the ML libraries with its first request. It loads weights only for the baselines of frozen embeddings and of
few-shot prompts and for features, and trains nothing but logistic regressions and single layers. It has a low priority
and a memory limit, and ends when stdin ends, after an idle time, after a request that exceeded its memory, and with its
parent.
"""

import json
import os
import select
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app import feature
from app.domain.data.baselines import BaselineRequest
from app.domain.data.previews import PreviewRequest
from app.domain.failures import RunFailed
from app.domain.messages import _
from app.domain.models.hub_access import HubAccess
from app.domain.resources.estimate import EstimateRequest, MapRequest
from app.imports import import_large
from worker.children.child import answer_channel, confine, import_engine, yield_processor

MAX_BYTES = 6 * 2**30
"""Limit of writable memory. The largest models take less than 1 GiB: their tensors have no storage."""
IDLE_SECONDS = 600.0
"""The process ends after this time without a request, and returns some 400 MiB."""


def answer(line: bytes) -> dict[str, Any]:
    """The answer to a request. Raises MemoryError only."""
    try:
        request = json.loads(line)
        access = HubAccess.model_validate(request["hub"]) if request.get("hub") else None
        with import_large("worker.engine.models.hub.access").acting_for(access):
            return _answer(request)
    except RunFailed as error:
        return {"error": error.message}
    except MemoryError:
        raise
    except Exception as error:
        traceback.print_exc()
        why = _("The computation failed (%(why)s).", why=f"{type(error).__name__}: {error}")
        return {"error": why, "internal": True}


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    # Imported by name and late: it takes seconds, and library output must not be parsed as an answer.
    if "preview" in request:
        previews = import_engine("worker.engine.data.previews.previews")
        preview = previews.preview(PreviewRequest.model_validate(request["preview"]), Path(request["dataset"]))
        return {"preview": preview.model_dump(mode="json")}
    if "baseline" in request:
        baselines = import_engine("worker.engine.baselines.baselines")
        scored = baselines.baseline(BaselineRequest.model_validate(request["baseline"]), Path(request["dataset"]))
        return {"baseline": scored.model_dump(mode="json")}
    if "computation" in request:
        engine = import_engine(f"worker.features.{request['feature']}.answer")
        computation = feature.module_of(request["feature"], "computations").REQUESTS.validate_python(
            request["computation"]
        )
        files = {field: Path(path) for field, path in request["files"].items()}
        return {"computation": engine.answer(computation, files).model_dump(mode="json")}
    if "map" in request:
        maps = import_engine("worker.engine.estimation.estimate")
        return {"map": maps.memory_map(MapRequest.model_validate(request["map"])).model_dump(mode="json")}
    engine = import_engine("worker.engine.estimation.estimate")
    dataset = Path(request["dataset"]) if request["dataset"] else None
    estimate = engine.estimate_run(EstimateRequest.model_validate(request["run"]), dataset)
    return {"run": estimate.model_dump(mode="json")}


def requests() -> Iterator[bytes]:
    """Lines of stdin, until it ends or nothing has come for `IDLE_SECONDS`."""
    pending = b""
    while select.select([0], [], [], IDLE_SECONDS)[0] and (data := os.read(0, 1 << 16)):
        *lines, pending = (pending + data).split(b"\n")
        yield from lines


def main() -> int:
    """Answer requests until stdin ends; returns the exit status."""
    confine(MAX_BYTES)
    yield_processor()
    with answer_channel() as answers:
        for line in requests():
            try:
                response = answer(line)
            except MemoryError:
                text = _("This estimate takes more than %(limit)s GiB of memory.", limit=MAX_BYTES >> 30)
                answers.write(f"{json.dumps({'error': text})}\n")
                return 1
            answers.write(f"{json.dumps(response, allow_nan=False)}\n")
            answers.flush()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # torch's shutdown takes time, and all output is flushed
