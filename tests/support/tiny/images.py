"""Tiny images whose colour tells the label, and a tiny vision transformer with its image processor."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageClassification, PreTrainedModel, ViTConfig, ViTModel

from app.domain.data.dataset import ImageRow, Split, item_name
from app.domain.data.images import pixels_hash, png_of
from app.domain.methods import MethodSpec
from app.domain.runs.job import TrainJob
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import texts as tiny
from worker.engine.data.images import load_image_processor

LABELS = ["blue", "green", "red"]
COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 16, "width": 16},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.2],
}
FAST = tiny.FAST.model_copy(update={"num_train_epochs": 4})


def picture(place: int, width: int = 12, height: int = 10) -> tuple[int, int, bytes]:
    """Noise with a tint: width, height and RGB."""
    noise = np.random.default_rng(place).integers(0, 100, (height, width, 3))
    tint = np.array(COLOURS[LABELS[place % 3]]) * 0.6
    return width, height, (noise + tint).astype(np.uint8).tobytes()


def rows(train: int = 60, validation: int = 24, test: int = 24) -> list[ImageRow]:
    """Images of one size with the three labels in turn."""
    found = []
    for place in range(train + validation + test):
        split: Split = "train" if place < train else "validation" if place < train + validation else "test"
        image = picture(place)
        found.append(ImageRow(item_name(pixels_hash(*image)), split, png_of(*image), place % 3))
    return found


def config(**changes: Any) -> ViTConfig:
    """ViT with two blocks of width 32 and 16 patches."""
    sizes = {
        "image_size": 16, "patch_size": 4, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "initializer_range": 0.1,
    }  # fmt: skip
    return ViTConfig(**{**sizes, **changes})


def save_model(directory: Path, **changes: Any) -> Path:
    """A base model's directory: weights without a head, configuration, image processor."""
    torch.manual_seed(1234)
    ViTModel(config(**changes), add_pooling_layer=False).save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(PROCESSOR), encoding="utf-8")
    return directory


def model(**changes: Any) -> PreTrainedModel:
    """The tiny model with a head over the labels, the same every time."""
    torch.manual_seed(0)
    found: PreTrainedModel = AutoModelForImageClassification.from_config(
        config(**{"num_labels": 3} | changes), attn_implementation="sdpa"
    )
    return found.eval()


def processor(directory: Path, **changes: Any) -> Any:
    """The image processor, with other settings."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | changes), encoding="utf-8")
    return load_image_processor(directory)


def job(
    directory: Path,
    base: Path,
    method: MethodSpec | None = None,
    training: TrainingArguments = FAST,
    table: list[ImageRow] | None = None,
) -> TrainJob:
    """A job in a directory of its own."""
    table = rows() if table is None else table
    return tiny.job_on(directory, base, "image-classification", "labelled-images", table, LABELS, method, training)
