"""The base model of the sample of images: the same everywhere, and loaded like any other."""

from pathlib import Path

import numpy as np
import pytest

from app.samples.digits import DIGITS, SHEET, SIDE, digit_rows, digits
from worker.engine.data.images import opened, shape_of
from worker.engine.models import digits as training
from worker.engine.models.inspect import inspect
from worker.engine.models.load import load


@pytest.mark.slow
def test_the_same_seed_trains_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EPOCHS", 1)
    for name in ("one", "two"):
        training.train(tmp_path / name)
    one, two = (inspect(str(tmp_path / name)) for name in ("one", "two"))
    assert one == two and one.tasks.keys() == {"image-classification"}
    assert 130_000 < one.parameters < 150_000
    loaded = load(str(tmp_path / "one"), "", "image-classification", DIGITS, 0)
    assert loaded.missing == [] and shape_of(loaded.processor) == (3, SHEET, SHEET)


def test_a_digit_stands_on_its_sheet_where_its_hash_says() -> None:
    digit = digits()[0]
    own = np.frombuffer(digit.rgb, dtype=np.uint8).reshape(SIDE, SIDE, 3)
    sheet = np.frombuffer(digit.on_sheet(1, 3), dtype=np.uint8).reshape(SHEET, SHEET, 3)
    assert np.array_equal(sheet[3 : 3 + SIDE, 1 : 1 + SIDE], own)
    assert (sheet[:3] == 255).all() and (sheet[:, 1 + SIDE :] == 255).all()
    left = {np.argwhere(np.asarray(opened(row.image)).min((0, 2)) < 128).min() for row in digit_rows()}
    assert len(left) >= SHEET - SIDE + 1, "they do not all stand at one place"
