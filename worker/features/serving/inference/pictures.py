"""Has the pictures of a request decoded before the inference process gets them
(`worker.features.serving.inference.picture_child`)."""

import json
import sys
from collections.abc import Sequence

from app.domain.errors import FieldError, Invalid
from app.domain.messages import Message, _
from app.features.serving.rules import Given, InferenceRequest, Picture
from worker.children.host import Child

COMMAND = (sys.executable, "-P", "-m", "worker.features.serving.inference.picture_child")
SECONDS = 60
"""For all pictures of a request."""


def decoded(request: InferenceRequest, command: Sequence[str] = COMMAND) -> InferenceRequest:
    """The request with PNGs that the child made. Raises Invalid for pictures that cannot be read, and ChildError."""
    places = [place for place, given in enumerate(request.inputs) if isinstance(given, Picture)]
    if not places:
        return request
    inputs: list[Given] = list(request.inputs)
    errors = []
    child = Child("image", command, environment={"CUDA_VISIBLE_DEVICES": ""})
    try:
        images = [given.image for given in request.inputs if isinstance(given, Picture)]
        child.send(json.dumps({"images": images}).encode(), SECONDS)
        for place in places:
            answer = json.loads(child.receive(SECONDS))
            if "png" in answer:
                inputs[place] = Picture(image=answer["png"])
            else:
                what = _("This image cannot be read (%(why)s)", why=Message(answer["refused"]))
                remedy = _("Save it as JPEG or PNG with at most 50 megapixels")
                errors.append(FieldError(f"inputs.{place}", what, remedy))
    finally:
        child.close()
    if errors:
        raise Invalid.of(errors)
    return request.model_copy(update={"inputs": inputs})
