"""What computes a score, as far as the code of a function tells. The server takes equal texts for equal scoring, so a
function whose result depends on more than its code gets no text, and its user states `metric_version=`."""

import builtins
import hashlib
import inspect
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

ARGMAX = "argmax equals label, 1"
"""The metric version of the default score."""
PLAIN = (bool, int, float, str, type(None))
"""Values that the hash includes."""


def version_of(function: Callable[..., Any] | None) -> str:
    """The default by its name, a function by its name and a hash of its source, its defaults and the plain globals that
    it reads. Empty for what the source does not describe: an object, a method, a partial, a lambda (a line may have
    several), a closure, a function without source, or one that reads a global object."""
    if function is None:
        return ARGMAX
    if not isinstance(function, FunctionType) or function.__closure__ or function.__name__ == "<lambda>":
        return ""
    inputs = sorted(_inputs(function), key=lambda one: one[0])
    if not all(isinstance(value, PLAIN) for _name, value in inputs):
        return ""
    try:
        code = inspect.getsource(function)
    except (OSError, TypeError):
        return ""
    text = code + "".join(f"{name}={value!r}\n" for name, value in inputs)
    return f"{function.__qualname__}, SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _inputs(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Names and values of the defaults, and of the globals but for modules, functions and classes."""
    yield from ((f"default {place}", value) for place, value in enumerate(function.__defaults__ or ()))
    yield from (function.__kwdefaults__ or {}).items()
    for name in _names(function.__code__):
        value = function.__globals__.get(name, builtins)
        if not isinstance(value, ModuleType | FunctionType | BuiltinFunctionType | type):
            yield f"global {name}", value


def _names(code: CodeType) -> set[str]:
    """Names of globals and attributes, those in comprehensions and inner functions too."""
    inner = (_names(one) for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*inner)
