"""What is read from a model: nothing that makes processes that train together wait for each other."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from vezna import facts


class Sharded:
    """A model whose weights lie in several processes."""

    config = SimpleNamespace(_name_or_path="someone/bert", _commit_hash="abc")

    def parameters(self) -> list[Any]:
        """A part of them."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Would wait for the other processes."""
        raise AssertionError("the weights were gathered")


def test_weights_that_lie_in_several_processes_are_neither_counted_nor_gathered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert facts.of_model(Sharded()) == {"base_model": "someone/bert"}
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(AssertionError, match="gathered"):
        facts.of_model(Sharded())


def test_the_files_of_a_model_are_those_of_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    hub = SimpleNamespace(try_to_load_from_cache=lambda *args, **kwargs: asked.append((args, kwargs)))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setenv("WORLD_SIZE", "2")
    facts.of_model(Sharded())
    assert asked == [(("someone/bert", "config.json"), {"revision": "abc"})]
