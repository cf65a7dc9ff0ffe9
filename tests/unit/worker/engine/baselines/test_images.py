"""Baselines of images: pixels, and the hidden states of a frozen model."""

from pathlib import Path

import numpy as np
import pytest

from app.domain.data.baselines import BaselineKind, BaselineRequest, baselines_of, not_applicable
from app.domain.data.dataset import items_hash
from app.store.files.rows_file import RowsFile
from tests.support.tiny import images as tiny_images
from worker.engine.baselines.images import FrozenFeatures, raw_pixels
from worker.engine.baselines.texts import baseline


def test_the_baselines_of_images() -> None:
    known = baselines_of("image-classification", "labelled-images", "accuracy")
    assert known == ["most-frequent", "pixels", "embeddings"]
    assert not not_applicable("image-classification", "labelled-images", "accuracy")
    assert "pixels" not in baselines_of("sequence-classification", "labelled", "accuracy")


def request(kind: BaselineKind, model: Path) -> BaselineRequest:
    return BaselineRequest(
        kind=kind,
        dataset_file="rows",
        dataset_format="labelled-images",
        dataset_hash="h",
        labels=tiny_images.LABELS,
        location=str(model),
    )


@pytest.mark.parametrize(("kind", "accuracy"), [("most-frequent", 1 / 3), ("pixels", 1.0), ("embeddings", 1.0)])
def test_colours_are_told_apart_by_pixels_and_by_a_frozen_model(
    kind: BaselineKind, accuracy: float, tmp_path: Path
) -> None:
    rows = tiny_images.rows()
    with RowsFile(tmp_path / "rows.parquet", "labelled-images", tiny_images.LABELS) as file:
        file.write(rows)
    found = baseline(request(kind, tiny_images.save_model(tmp_path / "model")), tmp_path / "rows.parquet")
    assert found.metrics["accuracy"] == pytest.approx(accuracy)
    assert found.items_hash == items_hash([row.item for row in rows if row.split == "test"])


def test_features_are_of_each_image(tmp_path: Path) -> None:
    rows = tiny_images.rows(40, 0, 0)
    pixels = raw_pixels(rows)
    assert pixels.shape == (40, 3 * 16 * 16) and 0 <= pixels.min() < pixels.max() <= 1
    features = FrozenFeatures(request("embeddings", tiny_images.save_model(tmp_path / "model")))
    hidden = features(rows)
    assert hidden.shape == (40, 32) and np.allclose(features(rows[35:36]), hidden[35:36], atol=1e-5)
