"""Features of images for baselines (`worker.engine.baselines.texts`): raw pixels, and a frozen model's hidden
states."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel

from app.domain.data.baselines import BaselineRequest
from app.domain.data.dataset import Row, Split
from worker.engine.baselines.small_model import load_small
from worker.engine.data.images import Normalization, check_shape, load_image_processor, opened, resized, shape_of
from worker.engine.data.stored_images import pngs

SIDE = 16
"""Pixels of a side to which images are squeezed for the baseline on raw pixels: 768 features."""
BATCH = 32
"""Images of a batch of the frozen model."""


def raw_pixels(rows: Sequence[Row]) -> NDArray[np.float32]:
    """Images squeezed to `SIDE` × `SIDE` pixels in RGB, from 0 to 1: [N, 3 · SIDE²]."""
    features = np.empty((len(rows), 3 * SIDE * SIDE), dtype=np.float32)
    for place, png in pngs(rows):
        features[place] = np.asarray(opened(png).resize((SIDE, SIDE)), dtype=np.float32).ravel() / 255
    return features


class FrozenFeatures:
    """The mean last hidden state of an image's patches and special tokens."""

    def __init__(self, request: BaselineRequest) -> None:
        """Raises `RunFailed`."""
        self._processor, self._model = load_small(request, AutoModel, load_image_processor)
        check_shape(shape_of(self._processor), self._model.config)
        self._normalization = Normalization.of(self._processor)

    def __call__(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """[N, H]."""
        means = np.empty((len(rows), self._model.config.hidden_size), dtype=np.float32)
        images = pngs(rows)
        while some := list(islice(images, BATCH)):
            pixels = torch.from_numpy(np.stack(resized(self._processor, [opened(png) for _place, png in some])))
            with torch.inference_mode():
                hidden = self._model(pixel_values=self._normalization.of_pixels(pixels)).last_hidden_state
            means[[place for place, _png in some]] = hidden.float().mean(1).numpy()
        return means


def standardized(features: dict[Split, NDArray[np.float32]]) -> dict[Split, Any]:
    """By the mean and the standard deviation of the training rows."""
    scaler = StandardScaler().fit(features["train"])
    return {split: scaler.transform(values) for split, values in features.items()}
