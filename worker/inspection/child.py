"""The inspection process, for one base model: `python -P -m worker.inspection.child`.

    stdin    {"location": path or hub id, "revision": commit or "", "hub": HubAccess or null}
    stdout   `app.domain.models.base_model.ModelFacts`, or {"error": a sentence}
    stderr   library output, and tracebacks

A model's configuration is untrusted: one that describes a million layers exhausts this process's memory limit and
affects nothing else.
"""

import gc
import json
import traceback

from app.domain.failures import RunFailed
from app.domain.messages import _
from app.domain.models.hub_access import HubAccess
from app.imports import import_large
from worker.children.child import answer_one_request, import_engine

MAX_BYTES = 4 * 2**30
"""Limit of writable memory. The largest models take a fraction of it: no weights are loaded."""
MAX_SECONDS = 150
"""The worker gives up after 120."""


def answer(request: str) -> str:
    try:
        message = json.loads(request)
        engine = import_engine("worker.engine.models.inspect")  # after stdout is reserved for the answer
        hub = import_large("worker.engine.models.hub.access")
        access = HubAccess.model_validate(message["hub"]) if message.get("hub") else None
        gc.disable()  # the process ends with its answer; searching a deep model's objects took half of the time
        with hub.acting_for(access):
            return str(engine.inspect(message["location"], message["revision"]).model_dump_json())
    except RunFailed as error:
        return json.dumps({"error": error.message})
    except MemoryError:
        text = _("Inspecting this model takes more than %(limit)s GiB of memory.", limit=MAX_BYTES >> 30)
        return json.dumps({"error": text})
    except Exception as error:
        traceback.print_exc()
        why = f"{type(error).__name__}: {error}"
        return json.dumps({"error": _("The model could not be inspected (%(why)s).", why=why)})


if __name__ == "__main__":
    answer_one_request(answer, MAX_BYTES, MAX_SECONDS)
