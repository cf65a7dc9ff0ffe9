"""Class probabilities of pictures: PNGs that the worker made, read as the evaluation reads those of a dataset."""

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from app.domain.data.images import png_of, size_of
from app.domain.inference import Prediction
from worker.engine.data.images import Normalization, opened, resized
from worker.engine.inference.classify import prediction_of
from worker.engine.inference.models import Held


def classify_pictures(held: Held, pngs: Sequence[bytes], between: Callable[[], None]) -> Iterator[Prediction]:
    """The prediction for each picture, batch by batch; `between` may raise before each."""
    size = held.job.job.spec.training.per_device_eval_batch_size
    normalization = Normalization.of(held.tokenizer)
    dtype = next(held.model.parameters()).dtype
    for start in range(0, len(pngs), size):
        between()
        pixels = np.stack(resized(held.tokenizer, [opened(png) for png in pngs[start : start + size]]))
        values = normalization.of_pixels(torch.from_numpy(pixels)).to(dtype)
        with torch.inference_mode():
            logits: torch.Tensor = held.model(pixel_values=values).logits
        for place, row in enumerate(logits.float().softmax(dim=1), start):
            yield prediction_of(place, held.job.job.labels, row.tolist())


def seen(held: Held, png: bytes) -> dict[str, Any]:
    """The event that shows a picture as the model reads it."""
    [pixels] = resized(held.tokenizer, [opened(png)])
    _channels, height, width = pixels.shape
    image = b64encode(png_of(width, height, pixels.transpose(1, 2, 0).tobytes())).decode()
    return {
        "type": "seen",
        "image": f"data:image/png;base64,{image}",
        "size": [width, height],
        "stored_size": list(size_of(png)),
    }
