"""Whether a number of one run may be held against the same number of another in a list.

A score rests on its metric and the data, memory and time on where they were measured. The judgements are those of a
comparison of any runs (`app.domain.comparison.confounders`), made from what a list knows of a run without looking at
its test items.
"""

from collections.abc import Mapping

from app.domain.comparison.confounders import OF_TERMS, SILENT, UNKNOWN, Term, What
from app.domain.runs.fields import Field

DATA = (What.DATASET, What.DATASET_VERSION)
SCORE = (What.METRIC, *DATA)
TIME = (What.DEVICE, What.PRECISION)
MEMORY = (*TIME, What.MEMORY_MEASURE)
RESTS_ON: Mapping[str, tuple[What, ...]] = {
    "loss": DATA,
    "train_loss": DATA,
    "peak": MEMORY,
    "train": TIME,
    "wall": TIME,
    "speed": TIME,
}
"""By field; every fraction is a score, and other fields rest on nothing but the run."""


def in_the_way(field: Field, these: Mapping[Term, str], those: Mapping[Term, str]) -> What | None:
    """What keeps a number of one run from being held against that of another, the gravest; None where nothing does.

    What a cost or a score rests on must be known; of the version of the data it is enough that none says another.
    """
    for what in SCORE if field.kind == "fraction" else RESTS_ON.get(field.name, ()):
        for term in OF_TERMS[what]:
            here, there = these.get(term, UNKNOWN), those.get(term, UNKNOWN)
            if UNKNOWN in (here, there):
                if what not in SILENT:
                    return what
            elif here != there:
                return what
    return None
