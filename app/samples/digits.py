"""Handwritten digits: the packaged sample of image classification.

Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (1998, CC BY
4.0), of which scikit-learn carries the test set: 1,797 images of 8 × 8 pixels in 17 shades. Each stands somewhere on a
white sheet of 12 × 12 pixels, at a place that its hash decides: alone in their images, a linear model of pixels reads
digits better than a small transformer does. The base model is trained on the digits 0 to 4, and the study's rows are
the digits 5 to 9, so no row of the study is one that the base model learned from.
"""

import csv
import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from app.domain.data.dataset import ImageRow, item_name, split_at
from app.domain.data.images import pixels_hash, png_of
from app.domain.errors import Unavailable
from app.domain.messages import _
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.models.base_model import SAMPLE_IMAGE_MODEL
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec

SIDE, SHADES = 8, 16
SHEET = 12
"""Pixels of a side of the sheet."""
DIGITS = ["5", "6", "7", "8", "9"]
"""The labels of the study."""
TRAIN, VALIDATION = 400, 80
IMAGES, IMAGES_TITLE = "digits-5-to-9", "Handwritten digits 5 to 9, each somewhere on a sheet"
IMAGES_STUDY_NAME = "Digits 5 to 9 on a vision transformer of 0 to 4"


class Digit(NamedTuple):
    """An image of a digit."""

    name: str
    rgb: bytes
    """[8, 8, 3], black ink on white."""

    def on_sheet(self, left: int, top: int) -> bytes:
        """[12, 12, 3], with the digit's corner at a place from 0 to 4 each."""
        white, line = b"\xff" * 3, 3 * SIDE
        lines = [self.rgb[start : start + line] for start in range(0, len(self.rgb), line)]
        rest = SHEET - SIDE - left
        inked = b"".join(white * left + pixels + white * rest for pixels in lines)
        return white * SHEET * top + inked + white * SHEET * (SHEET - SIDE - top)

    @property
    def placed(self) -> bytes:
        """On the sheet, at the place that its hash decides."""
        chosen = int(pixels_hash(SIDE, SIDE, self.rgb)[:8], 16)
        places = SHEET - SIDE + 1
        return self.on_sheet(chosen % places, chosen // places % places)


def digits() -> list[Digit]:
    """All of them, each image once. Raises Unavailable without scikit-learn, which is located and never imported."""
    spec = find_spec("sklearn")
    file = Path(spec.origin).with_name("datasets") / "data" / "digits.csv.gz" if spec and spec.origin else None
    if file is None or not file.is_file():
        text = _("The sample of images comes with scikit-learn, which is not installed. Install vezna[worker].")
        raise Unavailable(text)
    with gzip.open(file, "rt", encoding="ascii", newline="") as lines:
        rows = [[int(float(value)) for value in row] for row in csv.reader(lines)]
    found = {bytes(255 - round(v * 255 / SHADES) for v in values for _channel in "RGB"): str(label)
             for *values, label in rows}  # fmt: skip
    return [Digit(name, rgb) for rgb, name in found.items()]


def digit_rows() -> list[ImageRow]:
    """The digits 5 to 9 with their splits, in the order of their hashes."""
    chosen = sorted((item_name(pixels_hash(SHEET, SHEET, d.placed)), d) for d in digits() if d.name in DIGITS)
    return [
        ImageRow(item, split_at(place, TRAIN, VALIDATION), png_of(SHEET, SHEET, digit.placed), DIGITS.index(digit.name))
        for place, (item, digit) in enumerate(chosen)
    ]


def images_study(dataset: str = IMAGES, base_model: str = SAMPLE_IMAGE_MODEL) -> StudySpec:
    """The sample study of images: full fine-tuning, LoRA on all linear layers, and a linear probe on digits that the
    base model has not seen."""
    return StudySpec(
        name=IMAGES_STUDY_NAME,
        base_model=base_model,
        dataset=dataset,
        task="image-classification",
        arms=[
            ArmSpec(method=FullSpec()),
            ArmSpec(method=LoraSpec(r=8, lora_alpha=16)),
            ArmSpec(method=HeadOnlySpec()),
        ],
        seeds=[0, 1, 2],
        training=TrainingBudget(num_train_epochs=12, per_device_train_batch_size=16),
        reference="full",
        margin_points=2.0,
    )
