"""Classification of images: a new head over the labels, on top of a vision transformer.

    image → patches (and a class token): [B, T, H]
    logits [B, labels] = head(base(pixels [B, C, H, W]))        loss = cross-entropy, summed over the images

An image is read as its processor makes it; there is no augmentation, so that every arm sees the same pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

from app.domain.data.dataset import ImageRow, Row, Split
from app.domain.messages import Message, _
from app.domain.runs.job import TrainJob
from worker.engine.data.batches.batches import Batch, Examples, Listener
from worker.engine.data.images import (
    Normalization,
    Pixels,
    Shape,
    check_shape,
    pixels_of,
    pngs,
    sequence_length,
    shape_of,
)
from worker.engine.data.rows import unusable
from worker.engine.tasks.sequence_classification import evaluate, loss, losses

__all__ = ["ARCHITECTURES", "AUTO", "PEFT_TYPE", "collate", "encode", "evaluate", "incompatibility", "loss", "losses"]

AUTO = AutoModelForImageClassification
ARCHITECTURES = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
PEFT_TYPE = None  # PEFT has no name for it, and wraps the model without one


@dataclass(frozen=True)
class Images(Examples):
    """A split of images; targets are [1], the label."""

    pixels: Pixels
    """[N, C, H, W], mapped from a file."""
    normalization: Normalization


def incompatibility(config: PreTrainedConfig) -> Message | None:
    """Rejects all but plain vision transformers, whose blocks all have one width, and those that read no RGB."""
    sizes = [getattr(config, name, None) for name in ("hidden_size", "num_attention_heads", "patch_size")]
    image_size = getattr(config, "image_size", None)
    if not all(isinstance(size, int) for size in sizes[:2]) or sizes[2] is None or image_size is None:
        return _(
            "A model of type %(type)r is not a plain vision transformer: its stages have different widths, or it has "
            "no patches. Choose a model such as ViT, DeiT, BEiT or DINOv2.",
            type=config.model_type,
        )
    if getattr(config, "num_channels", 3) != 3:
        return _(
            "A model of type %(type)r with %(channels)s channels does not read RGB images. Choose one with 3 channels.",
            type=config.model_type,
            channels=config.num_channels,
        )
    return None


def encode(
    rows: Sequence[Row], split: Split, processor: Any, model: PreTrainedModel, job: TrainJob, sink: Listener
) -> Images:
    """Pixels of every image. Raises `RunFailed` for a damaged one, and for a processor that does not suit the model."""
    images = [_checked(row, len(job.labels)) for row in rows]
    shape = shape_of(processor)
    check_shape(shape, model.config)
    between = sink.raise_if_stopped
    pixels, small = pixels_of(processor, pngs(images), len(images), shape, job.output, between)
    if small:
        sink.log(_resized_up(small, len(rows), split, shape, enlarges=processor.do_resize))
    return Images(
        rows=[row._replace(image=b"") for row in images],  # the pixels are in the file
        targets=[np.asarray([row.label], dtype=np.int64) for row in images],
        lengths=[sequence_length(model, shape)] * len(rows),
        pixels=pixels,
        normalization=Normalization.of(processor),
    )


def _resized_up(small: Sequence[tuple[int, int]], of: int, split: Split, shape: Shape, *, enlarges: bool) -> str:
    """What happened to images that are smaller than the model's input; `small` has their widths and heights."""
    least, most = (f"{width} × {height}" for width, height in (min(small), max(small)))
    sizes = least if least == most else f"between {least} and {most}"
    done = "resized them up" if enlarges else "padded them"
    return (
        f"{len(small)} of the {of} images in the {split} split are smaller than the model's input: its image processor "
        f"{done} from {sizes} to {shape[2]} × {shape[1]} pixels (width × height)."
    )


def _checked(row: Row, labels: int) -> ImageRow:
    if not isinstance(row, ImageRow) or not row.image or row.label is None or not 0 <= row.label < labels:
        text = _("has no image, or a label outside 0 to %(last)s", last=labels - 1)
        raise unusable(row, text, _("Correct the dataset"))
    return row


def collate(examples: Images, indices: Sequence[int], pad_token: int) -> Batch:
    """Pixel values [B, C, H, W] and labels [B]."""
    pixels = torch.from_numpy(examples.pixels[list(indices)])
    labels = torch.from_numpy(np.concatenate([examples.targets[i] for i in indices]))
    return of_pixels(examples.normalization.of_pixels(pixels), labels, examples.lengths[0])


def of_pixels(pixels: torch.Tensor, labels: torch.Tensor, length: int) -> Batch:
    """A batch of images whose blocks read `length` vectors each, all of them real."""
    real = torch.ones((len(labels), length), dtype=torch.int64)
    return Batch({"pixel_values": pixels}, labels, real.numel(), padding=real)
