"""Names of blocks and modules of a folded model."""

from collections import Counter
from collections.abc import Sequence

from app.words.i18n import ngettext

DASH = "\N{EN DASH}"
MOST_NAMED = 4


def in_blocks(blocks: Sequence[int]) -> str:
    """`blocks 0–5`, `block 3`, `blocks 0, 2–4`; empty outside of the blocks."""
    if not blocks:
        return ""
    return ngettext("block %(which)s", "blocks %(which)s", len(blocks), which=ranges(blocks))


def ranges(numbers: Sequence[int]) -> str:
    """`0–5`, `0, 2–4`: neighbours as one range."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}{DASH}{run[-1]}" for run in runs)


def kinds(names: Sequence[str]) -> str:
    """`query, value, classifier`, `2 × dense`, or how many kinds of modules where they are more than a line holds."""
    short = Counter(name.rpartition(".")[2] for name in names)
    if len(short) > MOST_NAMED:
        return ngettext("%(num)s kind of module", "%(num)s kinds of modules", len(names))
    return ", ".join(name if number == 1 else f"{number} × {name}" for name, number in short.items())
