"""Pictures get the labels that the run's own evaluation gives the images of its dataset."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from app.domain.data.images import png_of
from app.domain.inference import ModelJob, Picture
from app.domain.methods import FullSpec, LoraSpec
from app.domain.models.exports import ExportFormat
from tests.support.rows import exported, inferred
from tests.support.tiny import images as tiny_images
from worker.engine.exporting import check, merge


def classifier(folder: Path, spec: Any) -> tuple[ModelJob, list[int]]:
    """A run that classifies images, and its own evaluation's predictions of its test items."""
    job = tiny_images.job(folder / "job", tiny_images.save_model(folder / "base"), spec)
    found, model = exported.trained(folder, job, ExportFormat.MERGED_FLOAT32)
    _base, processor = merge.base_model(job, torch.float32)
    _examples, predictions = check.predict(found, model, processor, lambda _share: None)
    whole = ModelJob(key="run 1/1", job=job, weights=found.weights, whole=found.whole, base_bytes=1000, own_bytes=10)
    return whole, predictions.columns["prediction"]


@pytest.mark.parametrize("spec", [FullSpec(), LoraSpec(r=4)], ids=lambda spec: spec.kind)
def test_pictures_have_the_labels_of_the_runs_own_evaluation(spec: Any, tmp_path: Path) -> None:
    job, labels = classifier(tmp_path, spec)
    pictures = [Picture.of(row.image) for row in tiny_images.rows() if row.split == "test"]
    found = inferred.predictions(inferred.asked(inferred.models(), [job], pictures[:16]))
    assert [one["label"] for one in found] == [tiny_images.LABELS[label] for label in labels[:16]]
    assert all(sum(one["probabilities"].values()) == pytest.approx(1) for one in found)
    half = job.model_copy(update={"dtype": "bfloat16", "key": "run 1/1 bf16"})
    rounded = inferred.predictions(inferred.asked(inferred.models(), [half], pictures[:16]))
    for one, other in zip(found, rounded, strict=True):
        assert list(other["probabilities"].values()) == pytest.approx(list(one["probabilities"].values()), abs=0.05)


def test_side_by_side_models_show_what_the_first_one_reads(tmp_path: Path) -> None:
    job, _labels = classifier(tmp_path, LoraSpec(r=4))
    png = png_of(*tiny_images.picture(3, 20, 12))
    events = inferred.asked(inferred.models(), [job, inferred.base_of(job)], [Picture.of(png)], "compare")
    [seen] = [event for event in events if event["type"] == "seen"]
    assert (seen["size"], seen["stored_size"]) == ([16, 16], [20, 12])
    image = Image.open(BytesIO(b64decode(seen["image"].removeprefix("data:image/png;base64,"))))
    assert image.size == (16, 16)
    own, base = [event["predictions"][0] for event in events if event["type"] == "answers"]
    assert own["probabilities"] != base["probabilities"]
