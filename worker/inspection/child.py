"""Inspect a base model in a process of its own: `python -m worker.inspection.child LOCATION [REVISION]`.

Prints `app.domain.models.base_model.ModelFacts` as JSON and exits with 0, or `{"error": …}` and exits with 1.
"""

import json
import sys
import traceback
from collections.abc import Sequence

from app.domain.failures import RunFailed
from worker.children.parent import answers_only
from worker.engine.models.inspect import inspect


def answer(arguments: Sequence[str]) -> tuple[str, int]:
    """The line to print and the exit status."""
    if not 1 <= len(arguments) <= 2:
        return json.dumps({"error": "usage: python -m worker.inspection.child LOCATION [REVISION]"}), 1
    try:
        return inspect(*arguments).model_dump_json(), 0
    except RunFailed as error:
        return json.dumps({"error": error.message}), 1
    except Exception as error:
        traceback.print_exc()
        return json.dumps({"error": f"The model could not be inspected ({type(error).__name__}: {error})."}), 1


def main() -> int:
    """Print the answer."""
    with answers_only() as answers:
        line, status = answer(sys.argv[1:])
        answers.write(f"{line}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
