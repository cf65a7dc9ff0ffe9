"""From stored images to a model's pixels, by the model's own image processor with its Pillow backend.

PNG → resized and cropped, uint8 [C, H, W], once per attempt, in a file without a name
    → float32 (x · rescale − mean) / std, for every batch
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoImageProcessor, PreTrainedConfig, PreTrainedModel

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _

if TYPE_CHECKING:
    from PIL.Image import Image
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.data.dataset import ImageRow, Row, StoredImage
from worker.engine.data.batches.batches import unreadable_dataset

Shape = tuple[int, int, int]
"""Channels, height and width."""
Pixels = NDArray[np.uint8]
_BETWEEN = 64
"""Images between two looks at whether to stop."""


def load_image_processor(folder: Path) -> Any:
    """Raises what transformers raises: OSError, ValueError, ImportError."""
    auto: Any = AutoImageProcessor
    return auto.from_pretrained(str(folder), trust_remote_code=False, backend="pil")


def resized(processor: Any, images: "Sequence[Image]") -> list[Pixels]:
    """Images in RGB as the processor resizes and crops them, without its normalization: uint8 [C, H, W] each."""
    found = processor(images=list(images), do_rescale=False, do_normalize=False)["pixel_values"]
    return [np.asarray(pixels, dtype=np.uint8) for pixels in found]


def _pillow() -> Any:
    """Pillow's module `Image`, which only tasks that read images need."""
    return import_module("PIL.Image")


def opened(png: bytes) -> "Image":
    """A stored image. Raises `RunFailed` if it is damaged."""
    try:
        image: Image = _pillow().open(BytesIO(png), formats=["PNG"]).convert("RGB")
        return image
    except (OSError, ValueError, SyntaxError) as error:
        text = _("An image of the dataset is damaged (%(why)s). Upload it again.", why=str(error)[:200])
        raise RunFailed(FailureCode.DATASET_UNAVAILABLE, text) from error


def shape_of(processor: Any) -> Shape:
    """The shape that the processor brings every image to. Raises `RunFailed(bad_configuration)` if images keep shapes
    of their own."""
    shapes = {
        pixels.shape for size in ((96, 64), (64, 96)) for pixels in resized(processor, [_pillow().new("RGB", size)])
    }
    if len(shapes) > 1:
        text = _(
            "The base model's image processor does not bring all images to one size. Set do_resize with a height and a "
            "width, or do_center_crop, in its preprocessor_config.json."
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    channels, height, width = shapes.pop()
    return channels, height, width


def shape_in(config: PreTrainedConfig) -> Shape:
    height, width = _pair(config.image_size)
    return getattr(config, "num_channels", 3), height, width


def check_shape(shape: Shape, config: PreTrainedConfig) -> None:
    """Raise `RunFailed(bad_configuration)` if the model has other positions than the images have patches. DINOv2
    interpolates its positions."""
    if shape != shape_in(config) and not config.model_type.startswith("dinov2"):
        sizes = [f"{height} × {width}" for _channels, height, width in (shape, shape_in(config))]
        text = _(
            "The base model's image processor makes images of %(processor)s pixels, and the model reads %(model)s. "
            "Correct size in its preprocessor_config.json.",
            processor=sizes[0],
            model=sizes[1],
        )
        raise RunFailed(FailureCode.BAD_CONFIGURATION, text)


def sequence_length(model: PreTrainedModel, shape: Shape) -> int:
    """The vectors that the blocks read for each image: of its patches, and of the class, distillation and register
    tokens."""
    height, width = _pair(model.config.patch_size)
    tokens = [
        parameter.shape[1]
        for name, parameter in model.named_parameters()
        if name.endswith(("_token", "_tokens")) and "mask" not in name and parameter.ndim == 3
    ]
    return (shape[1] // height) * (shape[2] // width) + sum(tokens)


class Normalization(NamedTuple):
    """factor · x + offset for each channel of uint8 pixels, float32 [C, 1, 1] each."""

    factor: torch.Tensor
    offset: torch.Tensor

    @classmethod
    def of(cls, processor: Any) -> "Normalization":
        """(x · rescale_factor − mean) / std, as far as the processor does so."""
        scale = processor.rescale_factor if processor.do_rescale else 1.0
        mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0.0, 1.0)
        means, stds = (torch.as_tensor(value, dtype=torch.float64).reshape(-1, 1, 1) for value in (mean, std))
        return cls((scale / stds).float(), (-means / stds).float())

    def of_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Float32 [B, C, H, W] from uint8."""
        return pixels.float().mul_(self.factor).add_(self.offset)


def pixels_of(
    processor: Any,
    images: Iterable[tuple[int, bytes]],
    count: int,
    shape: Shape,
    folder: str,
    between: Callable[[], None],
) -> tuple[Pixels, list[tuple[int, int]]]:
    """Every image as the model reads it, [N, C, H, W], by its place, and width and height of those that are smaller
    than that on a side. The values are in a file without a name in `folder`, since they may take more room than memory
    has. Raises OSError without room for it."""
    size = count * int(np.prod(shape))
    with tempfile.TemporaryFile(dir=folder or None) as file:
        os.posix_fallocate(file.fileno(), 0, max(1, size))  # a full disk is an error now, and a signal later
        pixels = np.memmap(file, dtype=np.uint8, mode="r+", shape=(count, *shape))
    small = []
    for done, (place, png) in enumerate(images):
        if done % _BETWEEN == 0:
            between()
        image = opened(png)
        if image.width < shape[2] or image.height < shape[1]:
            small.append(image.size)
        pixels[place] = resized(processor, [image])[0]
    return pixels, small


def _pair(size: Any) -> tuple[int, int]:
    """Height and width of a size that may be one number."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


_TOGETHER = 64
"""Images that are in memory at a time."""
_BUFFER = 1 << 20
"""Bytes that are read of a file at a time. Buffered in advance (`pre_buffer`), all of it would stay in memory."""


def pngs(rows: Sequence[Row]) -> Iterator[tuple[int, bytes]]:
    """The PNG of every row with its place among `rows`, in the order of their file, which is read once. Raises
    `RunFailed` if it cannot be read."""
    stored: dict[str, list[tuple[int, int]]] = {}
    for place, row in enumerate(rows):
        assert isinstance(row, ImageRow)  # noqa: S101 the format has no others
        if isinstance(row.image, StoredImage):
            stored.setdefault(row.image.file, []).append((row.image.place, place))
        else:
            yield place, row.image
    for file, places in stored.items():
        try:
            yield from _of_file(file, sorted(places))
        except (OSError, pa.ArrowException) as error:
            raise unreadable_dataset(error, file) from error


def _of_file(file: str, places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """`places`: rows of the file in order, each with its place among the wanted ones."""
    start, wanted = 0, iter(places)
    number, place = next(wanted)
    with pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as source:
        for batch in source.iter_batches(batch_size=_TOGETHER, columns=["image"]):
            images = batch.column(0)
            while number < start + len(images):
                yield place, images[number - start].as_py() or b""
                if (following := next(wanted, None)) is None:
                    return
                number, place = following
            start += len(images)
