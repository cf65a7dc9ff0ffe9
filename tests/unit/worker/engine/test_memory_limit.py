"""A MemoryError while a model is probed passes through, so that the process reports its limit."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.tiny import lm as tiny_lm
from worker.engine.data.batches.packing import check_packing
from worker.engine.data.batches.padding_free import check_padding_free
from worker.engine.loop.prefix.frozen_prefix import frozen_prefix
from worker.engine.models.architecture import behind_blocks

PROBES: dict[str, Callable[[Any], object]] = {
    "packing": lambda model: check_packing(model, 8),
    "padding-free": lambda model: check_padding_free(model, 8),
    "behind blocks": lambda model: behind_blocks(model, ["model.layers.0"]),
    "frozen prefix": frozen_prefix,
}


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_a_memory_error_passes_through(probe: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_lm.model("llama")
    model.get_input_embeddings().requires_grad_(False)  # there is no prefix to look for where everything trains

    def forward(*_args: object, **_options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(type(model), "forward", forward)
    with pytest.raises(MemoryError):
        probe(model)
