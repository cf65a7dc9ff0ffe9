"""Regular expressions for full module names, safe with patterns from untrusted users.

Python's `re` backtracks: `.*.*.*.*.*.*.*.*.*!` takes seconds on one name, and a longer pattern takes years. pydantic
includes Rust's `regex`, an automaton that reads each character once, so a match takes time linear in the name whatever
the pattern (https://docs.rs/regex, "Untrusted input"). Back-references and look-around are therefore unavailable.
"""

from collections.abc import Callable
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

LONGEST = 200
"""Maximum length of a pattern, in characters."""


@lru_cache(maxsize=256)
def matcher(pattern: str) -> Callable[[str], bool]:
    """A predicate that is true if the whole name matches. Raises ValueError with the reason for an invalid pattern."""
    _automaton(pattern)  # validated on its own: `a)|(b` would be valid inside the group below
    return _automaton(rf"\A(?:{pattern})\z").isinstance_python


def _automaton(pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        reason = str(error).strip().splitlines()[-1]
        if "size limit" in reason:
            reason = "its repeats make it too large"
        raise ValueError(reason.rpartition("error: ")[2]) from error
