"""What one looks at on a study's page, as its address has it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends

from app.domain.errors import Invalid
from app.web.contexts.study_arms import COLUMNS
from app.web.i18n import gettext as _

Cost = Literal["memory", "time"]
Curve = Literal["loss", "validation"]


@dataclass(frozen=True)
class StudyView:
    """What is drawn, and in which order the arms stand."""

    sort: str = ""
    """A column's name, with `-` before it where it falls; empty for the order of the study."""
    cost: Cost = "memory"
    curve: Curve = "loss"


def looked_at(sort: str = "", cost: Cost = "memory", curve: Curve = "loss") -> StudyView:
    """From an address. Raises Invalid for a word that means nothing."""
    if sort:
        among("sort", sort.removeprefix("-"), COLUMNS)
    return StudyView(sort=sort, cost=cost, curve=curve)


def among(field: str, word: str, choices: Iterable[str]) -> str:
    """The word, if it is one of the choices. Raises Invalid, naming the field and the choices."""
    known = list(choices)
    if word not in known:
        text = _("%(field)s: there is no %(word)s; choose from %(names)s")
        raise Invalid(text % {"field": field, "word": repr(word[:40]), "names": ", ".join(known)})
    return word


View = Annotated[StudyView, Depends(looked_at)]
