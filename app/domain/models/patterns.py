"""Patterns for the whole name of a module, which nobody can freeze a server with.

Python's `re` goes back and tries again: `.*.*.*.*.*.*.*.*.*!` keeps it busy for seconds with one name, and a longer
one for years. pydantic brings Rust's `regex`, an automaton that reads each character once, so that a match takes time
linear in the name whatever the pattern (https://docs.rs/regex, "Untrusted input"). What no automaton can do is not
there: references back to a group, and looking ahead or behind.
"""

from collections.abc import Callable
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

LONGEST = 200
"""Characters of a pattern."""


@lru_cache(maxsize=256)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether the whole of a name matches. Raises ValueError with the reason where the pattern cannot be read."""
    _automaton(pattern)  # by itself, so that `a)|(b` is not read as two halves of what stands around it
    return _automaton(rf"\A(?:{pattern})\z").isinstance_python


def _automaton(pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        reason = str(error).strip().splitlines()[-1]
        if "size limit" in reason:
            reason = "its repeats make it too large"
        raise ValueError(reason.rpartition("error: ")[2]) from error
