"""The conversion process: `python -P -m worker.samples.child`.

stdin    {"file": a GGUF file, "directory": the model's new directory}, or {"digits": true, "directory": …}, which
         trains the model of the sample of images
stdout   {} when the directory is complete, or {"error": a sentence}
stderr   library output, and tracebacks
"""

import json
import traceback
from pathlib import Path

from app.domain.errors import Unavailable
from app.domain.messages import _
from app.imports import import_large
from worker.children.child import answer_one_request

MAX_BYTES = 4 * 2**30
"""Limit of writable memory."""
MAX_SECONDS = 660
"""The worker gives up after 600."""


def answer(request: str) -> str:
    try:
        message = json.loads(request)
        if "digits" in message:
            import_large("worker.engine.models.digits").train(Path(message["directory"]))
        else:
            import_large("worker.engine.models.quantized.gguf").convert(
                Path(message["file"]), Path(message["directory"])
            )
    except Unavailable as error:
        return json.dumps({"error": error.message})
    except ImportError as error:
        text = _(
            "Converting a GGUF file needs the package %(package)s. Install it with: pip install 'vezna[sample]'",
            package=error.name or "gguf",
        )
        return json.dumps({"error": text})
    except Exception as error:
        traceback.print_exc()
        why = f"{type(error).__name__}: {error}"
        return json.dumps({"error": _("The packaged model could not be converted (%(why)s).", why=why)})
    return json.dumps({})


if __name__ == "__main__":
    answer_one_request(answer, MAX_BYTES, MAX_SECONDS)
