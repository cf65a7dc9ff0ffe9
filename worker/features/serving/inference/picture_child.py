"""Decodes pictures in a process of its own, with a memory limit and without secrets, as the images of datasets are:
`python -P -m worker.features.serving.inference.picture_child`.

    stdin    {"images": [base64, …]}
    stdout   a line for each: {"png": base64}, or {"refused": why}
"""

import json
from base64 import b64decode, b64encode
from typing import Any

from worker.children.child import answer_one_request
from worker.features.serving.inference.pictures import SECONDS
from worker.ingest.child import MAX_BYTES
from worker.ingest.images.images import Normalized, normalized


def answer(line: str) -> str:
    """The lines for a request."""
    return "\n".join(json.dumps(_of(b64decode(image))) for image in json.loads(line)["images"])


def _of(data: bytes) -> dict[str, Any]:
    try:
        image = normalized(data)
    except MemoryError:
        image = "not enough memory"
    return {"png": b64encode(image.png).decode()} if isinstance(image, Normalized) else {"refused": image}


if __name__ == "__main__":
    answer_one_request(answer, MAX_BYTES, SECONDS)
