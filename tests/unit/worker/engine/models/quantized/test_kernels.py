"""The import of bitsandbytes without torch's compiler."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from worker.engine.models.quantized.kernels import compiled_when_called

IMPORTED = """
import sys
from worker.children.engine import import_engine
import_engine("worker.training.execution")
print({name for name in ("bitsandbytes", "peft", "torch._inductor.compile_fx") if name in sys.modules})
"""


def test_a_function_is_compiled_once_and_not_before_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[dict[str, Any]] = []

    def compile_now(function: Callable[..., int], **options: Any) -> Callable[..., int]:
        compiled.append(options)
        return lambda *args, **named: 10 * function(*args, **named)

    monkeypatch.setattr(torch, "compile", compile_now)
    with compiled_when_called():
        added = torch.compile(lambda a, b: a + b, dynamic=False)
        doubled = torch.compile(fullgraph=True)(lambda a: 2 * a)
    assert torch.compile is compile_now and compiled == []
    assert (added(1, b=2), added(3, 4)) == (30, 70)
    assert doubled(1) == 20 and compiled == [{"dynamic": False}, {"fullgraph": True}]


@pytest.mark.nightly
def test_a_trainer_has_bitsandbytes_and_no_compiler() -> None:
    pytest.importorskip("bitsandbytes")
    found = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert eval(found.stdout) == {"bitsandbytes", "peft"}, found.stderr
