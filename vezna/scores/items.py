"""Hashes of rows and splits, which do not depend on how a model's inputs are made of them.

A row is hashed without what a tokenizer made of it (token ids, masks) where it has a text or messages, so that another
maximal length or padding leaves its hash alone; a row of numbers only is hashed as a whole.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

DIGITS = 32
"""Hex digits of an item's name: 128 bits."""
TOKENS = re.compile(
    r"(?!label_ids$).*_(ids|masks?)|(chosen|rejected)_labels|pixel_values|input_(features|values)|seq_lengths"
)
"""Columns of lists of numbers that a tokenizer or a processor makes of the others."""
TOKEN_LABELS = ("labels", "label_ids")
"""The same if they are as long as the token ids; otherwise they are labels of the row."""
COMPUTED = ("ref_chosen_logps", "ref_rejected_logps")
"""Columns of numbers that a trainer adds to its rows: TRL, of the reference model."""

ANSWERS = ("completion", "completions", "chosen", "rejected", "score_chosen", "score_rejected", "margin")
"""Columns that TRL's trainers read beside a prompt; the rest of such a row is its input."""
PLAIN = (bytes, int, float, list, tuple, Mapping)
"""Groups that count as they are; others, such as dates, by their text."""
MISSING = ("None", "nan", "NaN", "NaT", "<NA>")
"""How values that stand for no group are written."""


class Items(list[Any]):
    """Items that were made of rows: all that they have counts, whichever columns of the rows do."""


def item_names(rows: Iterable[Any], columns: Sequence[str] | None = None) -> list[str]:
    """A name for each row: SHA-256 of its contents, shortened; the second of two equal rows ends with `-2`. `columns`
    are those to hash. The rows of several datasets are told apart by the names of these. Raises ValueError for a row
    that cannot be hashed, or a column that a row does not have."""
    names, seen = [], Counter[str]()
    columns = None if isinstance(rows, Items) else columns
    for dataset, row in _by_dataset(rows):
        name = hashlib.sha256(dataset.encode() + _bytes(row, columns)).hexdigest()[:DIGITS]
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def item_groups(
    rows: Any, names: Sequence[str], columns: Sequence[str] | None = None, group: str | Sequence[Any] | None = None
) -> dict[str, str]:
    """By name, the group of each item that shares one with others: items with the same input (the row without labels
    and, beside a prompt, answers) or the same `group` (a column, or one for each item; None, NaN and an empty text are
    none), also through other items. Raises ValueError for a column that a row does not have, and another
    number of groups."""
    by_column = isinstance(group, str)
    listed = None if group is None or by_column else list(group)
    if listed is not None and len(listed) != len(names):
        raise ValueError(f"{len(listed)} groups were given for {len(names)} test items")
    root: dict[bytes, bytes] = {}

    def first(key: bytes) -> bytes:
        while root.setdefault(key, key) != key:
            root[key] = key = root[root[key]]
        return key

    keys = []
    for place, (_dataset, row) in enumerate(_by_dataset(rows)):
        if by_column and (not isinstance(row, Mapping) or group not in row):
            raise ValueError(f"a row has no column {group!r}, which group names")
        value = row[group] if by_column else listed[place] if listed is not None else None
        inputs = _bytes(_input(row, columns, group if by_column else None), None)
        keys.append(b"input" + hashlib.sha256(inputs).digest())
        if (stated := _group(value)) is not None:
            root[first(b"group" + stated)] = first(keys[-1])
    of_each = [first(key) for key in keys]
    sizes = Counter(of_each)
    shared = {key: str(number) for number, key in enumerate(key for key, size in sizes.items() if size > 1)}
    return {name: shared[key] for name, key in zip(names, of_each, strict=True) if key in shared}


def _input(row: Any, columns: Sequence[str] | None, group: Any) -> Any:
    if not isinstance(row, Mapping):
        return row
    row = {name: value for name, value in row.items() if name != group and (columns is None or name in columns)}
    answers = ("label", *TOKEN_LABELS, *(ANSWERS if "prompt" in row else ()))
    return {name: value for name, value in row.items() if name not in answers} or row


def _group(value: Any) -> bytes | None:
    """What stands for a group; None where it is missing: an empty text, or None, NaN, NaT or NA of any library."""
    if isinstance(value, str):
        return _bytes(value, None) if value else None
    if str(value) in MISSING:
        return None
    if hasattr(value, "tolist"):
        return _group(value.tolist())
    return _bytes(value if isinstance(value, PLAIN) else str(value), None)


def split_hash(names: Iterable[str]) -> str:
    """SHA-256 of a split, from the names of its rows in any order: the same rows have the same hash."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def is_stream(rows: Any) -> bool:
    """Whether rows, or those of one of several datasets by name, have no number and can perhaps be read only once."""
    return any(map(is_stream, rows.values())) if isinstance(rows, Mapping) else not hasattr(rows, "__len__")


def _by_dataset(rows: Any) -> Iterator[tuple[str, Any]]:
    """Each row, with the name of its dataset where there are several."""
    if not isinstance(rows, Mapping):
        return (("", row) for row in plain_rows(rows))
    if not all(hasattr(dataset, "column_names") for dataset in rows.values()):
        raise ValueError("the rows are a mapping of no datasets: give a dataset, or a list of rows")
    several = len(rows) > 1
    return ((f"{name}\n" if several else "", row) for name in sorted(rows) for row in plain_rows(rows[name]))


def plain_rows(rows: Any) -> Iterator[Any]:
    """Rows of a dataset of the `datasets` library without its tensors, which are slow to make; of a dataset of torch by
    its indices."""
    if hasattr(rows, "with_format"):
        return iter(rows.with_format(None))
    if hasattr(rows, "__getitem__") and hasattr(rows, "__len__"):
        return (rows[place] for place in range(len(rows)))
    return iter(rows)


def _bytes(row: Any, columns: Sequence[str] | None) -> bytes:
    if isinstance(row, Mapping):
        if columns is not None:
            if missing := [name for name in columns if name not in row]:
                raise ValueError(f"a row has no column {missing[0]!r}; it has {', '.join(map(str, row))}")
            row = {name: row[name] for name in columns}
        elif any(_has_text(value) for value in row.values()):
            row = {name: value for name, value in row.items() if name not in COMPUTED and not _is_of_tokens(name, row)}
    return json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain).encode(
        errors="surrogatepass"
    )


def _has_text(value: Any) -> bool:
    """A text, or a list of messages."""
    return isinstance(value, str) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))


def _is_of_tokens(name: str, row: Mapping[str, Any]) -> bool:
    """Whether a tokenizer made a column of the others."""
    if not _is_numbers(row[name]):
        return False
    ids = row.get("input_ids")
    return bool(TOKENS.fullmatch(name)) or (name in TOKEN_LABELS and ids is not None and len(ids) == len(row[name]))


def _is_numbers(value: Any) -> bool:
    if hasattr(value, "tolist"):
        value = value.tolist()
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], int | float | list | tuple)


def _plain(value: Any) -> Any:
    """What JSON has no form for."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tobytes"):  # an image
        return hashlib.sha256(value.tobytes()).hexdigest()
    raise ValueError(f"a row has a value of type {type(value).__name__}, which cannot be hashed")
