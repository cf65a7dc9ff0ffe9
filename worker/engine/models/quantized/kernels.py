"""The import of bitsandbytes without torch's compiler; import this before PEFT, which imports bitsandbytes.

On import, bitsandbytes hands some of its functions to `torch.compile`, which brings the compiler and its libraries: a
seventh of the time that all imports of a trainer take. The functions serve devices without a kernel in bitsandbytes;
here they are compiled when they are first called.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import Any

import torch


@contextmanager
def compiled_when_called() -> Iterator[None]:
    """Within it, `torch.compile(function, …)` returns a function that compiles when it is first called."""
    compile_now = torch.compile

    def later(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
        if function is None:  # called as `@torch.compile(…)`
            return lambda given: later(given, **options)

        @cache
        def compiled() -> Callable[..., Any]:
            return compile_now(function, **options)

        return lambda *args, **named: compiled()(*args, **named)

    torch.compile = later  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compile_now


with suppress(Exception), compiled_when_called():  # where it is missing or broken, PEFT finds out by itself
    import_module("bitsandbytes")
