"""Batches reach a GPU through pinned memory, and the host does not wait for them."""

from typing import Any

import pytest
import torch

from worker.engine.data.batches.batches import Batch, learnt

CUDA = torch.device("cuda:0")


class Watched:
    """What becomes of a batch's tensors, with a CPU in the place of the GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pinned: list[int] = []
        self.copies: list[tuple[bool, bool]] = []
        """Of each copy to the device: whether it was from pinned memory, and without waiting."""
        self._sources: list[torch.Tensor] = []
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: self._pin(tensor))
        monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *args, **options: self._to(tensor, *args, **options))

    def _pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self._sources.append(tensor.clone())
        return self._sources[-1]

    def _to(self, tensor: torch.Tensor, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        assert device == CUDA
        self.copies.append((any(tensor is source for source in self._sources), non_blocking))
        return tensor.clone()


def batch() -> Batch:
    labels = torch.tensor([[-100, 4, 5], [-100, 6, -100]])
    ids = torch.arange(6).reshape(2, 3)
    return Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels, 6, learnt(labels))


def test_every_tensor_of_a_batch_is_copied_from_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    made = batch()
    watched = Watched(monkeypatch)
    there: Any = made.to(CUDA)
    assert watched.copies == [(True, True)] * 5, "two inputs, two places and the labels"
    assert all(torch.equal(there.inputs[name], made.inputs[name]) for name in made.inputs)
    assert torch.equal(there.labels, made.labels) and torch.equal(there.targets, made.targets)


def test_on_a_cpu_nothing_is_copied() -> None:
    made = batch()
    assert made.to(torch.device("cpu")) is made
