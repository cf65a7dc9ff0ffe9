"""A process that estimates nothing: it speaks the protocol of `worker.estimation.child` and behaves as its argument
says.

good            answers everything, with its own process id as the step's operations
stuck           never answers
deaf            does not even read
dying           ends over a request
lying           answers what is no answer
off-topic       answers an estimate with a map's answer
talkative       says a line that nobody asked for after each answer
endless         never comes to the end of its line
sorry           answers with a sentence
short           does so, and ends
tired           answers once, and ends
lazy            answers once, and never again
busy            computes for a second before it answers, on the first processor
"""

import json
import os
import sys
import time

from app.domain.resources.estimate import MapRequest, MemoryMap
from tests.support.rows.estimates import estimate, memory_map

FIRST_PROCESSOR = {min(os.sched_getaffinity(0))} if sys.platform == "linux" else set()


def main() -> int:
    """Answer as told."""
    [manner] = sys.argv[1:]
    if manner == "deaf":
        time.sleep(60)
    for place, line in enumerate(sys.stdin):
        asked = json.loads(line)
        if manner == "stuck" or (manner == "lazy" and place):
            time.sleep(60)
        if manner == "busy":
            os.sched_setaffinity(0, FIRST_PROCESSOR)
            while time.process_time() < 1.0:
                pass
        if manner == "dying":
            return 3
        answer: object = {"error": "This architecture is not known."}
        if manner == "lying":
            answer = {"run": {"peak": "large"}}
        elif manner == "off-topic":
            answer = {"map": MemoryMap(cells=[], seconds=0).model_dump()}
        elif manner == "endless":
            while True:
                sys.stdout.write("x" * 65536)
        elif manner not in ("sorry", "short"):
            answer = _good(asked)
        print(json.dumps(answer), flush=True)
        if manner == "talkative":
            time.sleep(0.3)
            print("by the way", flush=True)
        if manner in ("short", "tired"):
            return 0
    return 0


def _good(asked: dict[str, object]) -> object:
    if "map" in asked:
        return {"map": memory_map(MapRequest.model_validate(asked["map"])).model_dump(mode="json")}
    found = estimate().model_copy(update={"step_flops": os.getpid()})
    return {"run": found.model_dump(mode="json")}


if __name__ == "__main__":
    sys.exit(main())
