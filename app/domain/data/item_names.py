"""Names of a dataset's items, which tell the clusters that items belong to.

0123456789abcdef                      the hash of the input
0123456789abcdef-2                    the third row with this input
0123456789abcdef~fedcba9876543210     with its group: rows of one group, or of one input, or linked by such rows
"""

import re

_NAME = re.compile(r"([0-9a-f]{16})(?:-[0-9]+)?(~[0-9a-f]{16})?")


def copy_name(item: str, before: int, group: int = 0) -> str:
    """The name of a row whose input `before` other rows have too, the first of which is `item`; `group` is 0 where it
    has none."""
    return item + (f"-{before}" if before else "") + (f"~{group:016x}" if group else "")


def cluster_of(item: str) -> str:
    """What the names of dependent items share: their group, else their input; the whole name if it has another form."""
    name = _NAME.fullmatch(item)
    return (name[2] or name[1]) if name else item


def group_in(item: str) -> str:
    """The end of a name that tells its group; empty without."""
    name = _NAME.fullmatch(item)
    return (name[2] or "") if name else ""
