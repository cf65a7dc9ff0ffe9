"""A base that was left trainable: the freeze audit catches it, and counts, bytes and answers show it."""

from pathlib import Path

import pytest

from app.features.lab.computations import Freezing, FreezingRequest
from tests.support.tiny import texts as tiny
from worker.features.lab import freezing as module
from worker.features.lab.answer import answer


@pytest.mark.slow
def test_the_mistake_is_caught_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS", 4)
    monkeypatch.setattr(module, "RATE", 1e-2)
    model = tiny.save_model(tmp_path / "model")
    rows = tiny.save_rows(tmp_path / "rows.parquet", tiny.rows())
    asked = FreezingRequest(location=str(model), rows_file="rows", labels=3)
    found = answer(asked, {"rows_file": rows})
    assert isinstance(found, Freezing)
    frozen, unfrozen = found.frozen, found.unfrozen
    assert (frozen.caught, frozen.changed, frozen.other_answers) == ("", 0, 0)
    assert frozen.trainable == frozen.expected == unfrozen.expected < unfrozen.trainable
    assert "is trainable, but the method does not train it" in unfrozen.caught
    assert frozen.base_tensors == unfrozen.base_tensors >= unfrozen.changed > frozen.base_tensors / 2
    assert frozen.gradient_bytes == 4 * frozen.trainable
    assert frozen.gradient_bytes < unfrozen.gradient_bytes <= 4 * unfrozen.trainable == unfrozen.weight_bytes
    assert 8 * frozen.trainable <= frozen.optimizer_bytes < unfrozen.optimizer_bytes
    assert answer(asked, {"rows_file": rows}) == found
