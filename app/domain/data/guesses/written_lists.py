"""Lists in the cells of files that have no lists, such as CSV."""

import ast
import json
import re
from typing import Any

_NUMPY_ITEM = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+|\.\.\.)"""
_NUMPY_LIST = re.compile(rf"\[\s*{_NUMPY_ITEM}(?:\s+{_NUMPY_ITEM})*\s*\]")
"""An array as numpy writes it, without commas; `...` stands for what it leaves out."""


def read_list(text: str) -> list[Any] | None:
    """A list as JSON, Python or numpy writes it; None if the text is none."""
    if not text.strip().startswith("[") or not text.strip().endswith("]"):
        return None
    for read in (json.loads, _numpy_list, ast.literal_eval):
        try:
            found = read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) else None
    return None


def _numpy_list(text: str) -> list[Any]:
    """Before Python's reading, which joins strings without a comma between them. Raises ValueError."""
    if not _NUMPY_LIST.fullmatch(text):
        raise ValueError(text)
    return [ast.literal_eval(item) if item[0] in "'\"." else item for item in re.findall(_NUMPY_ITEM, text)]
