"""A process that answers without a model: it speaks the protocol of `worker.features.serving.inference.child`.

good MARKER         answers with the keys of its last request as the loaded models, and its process id
silent MARKER       reads a request, and sends nothing
idle MARKER         ends over its first request, as a process that was idle; the next process is good
"""

import json
import os
import sys
from pathlib import Path


def main() -> int:
    """Answer each request."""
    manner, marker = sys.argv[1], Path(sys.argv[2])
    for line in sys.stdin:
        request = json.loads(line)
        if "cancel" in request or manner == "silent":
            continue
        if manner == "idle" and not marker.exists():
            marker.touch()
            return 0
        models = [job["key"] for job in request["jobs"]]
        for event in ({"type": "loaded", "bytes": os.getpid(), "models": models}, {"type": "end"}):
            print(json.dumps(event), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
