"""What one looks at on a study's page, as its address has it."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import Depends

from app.domain.errors import Invalid
from app.web.figures.arms_table import SORTS
from app.web.figures.axes import AXES
from app.web.figures.prices import PricesForm
from app.web.figures.quantities import PLACES, QUANTITIES
from app.web.figures.view import ViewParams
from app.web.i18n import gettext as _
from app.web.numbers import NotANumber, parse_number
from app.web.text.weight_delta import MEASURES

MOST_SMOOTH = 0.999


def looked_at(
    sort: str = "",
    x: str = "",
    y: str = "",
    cost: str = "",
    curve: str = "",
    by: str = "",
    smooth: str = "",
    matrices: str = "",
    matrices_arm: str = "",
    hour: str = "",
    kwh: str = "",
    currency: str = "",
    gib_month: str = "",
    months: str = "",
    tasks: str = "",
) -> ViewParams:
    """From an address; an empty word asks for what is usual. Raises Invalid for one that means nothing.

    `cost` is what `x` was called while scores alone were drawn over it.
    """
    usual = ViewParams()
    if sort:
        among("sort", sort.removeprefix("-"), SORTS)
    return ViewParams(
        sort=sort,
        x=among("x", x, AXES) if x else among("cost", cost, ("memory", "time")) if cost else usual.x,
        y=among("y", y, AXES) if y else usual.y,
        curve=among("curve", curve, QUANTITIES) if curve else usual.curve,
        by=among("by", by, PLACES) if by else usual.by,
        smooth=_factor(smooth) if smooth else usual.smooth,
        matrices=among("matrices", matrices, MEASURES) if matrices else usual.matrices,
        matrices_arm=matrices_arm,
        prices=PricesForm(hour=hour, kwh=kwh, currency=currency, gib_month=gib_month, months=months, tasks=tasks),
    )


def _factor(word: str) -> float:
    """Of smoothing. Raises Invalid unless it is one."""
    try:
        factor = parse_number(word)
    except NotANumber:
        factor = -1.0
    if not 0 <= factor <= MOST_SMOOTH:  # also what is not a number at all
        text = _("smooth: %(word)s is no factor of smoothing; choose from 0 (not at all) to %(most)s")
        raise Invalid(text % {"word": repr(word[:40]), "most": MOST_SMOOTH})
    return factor


def among(field: str, word: str, choices: Iterable[str]) -> str:
    """The word, if it is one of the choices. Raises Invalid, naming the field and the choices."""
    known = list(choices)
    if word not in known:
        text = _("%(field)s: there is no %(word)s; choose from %(names)s")
        raise Invalid(text % {"field": field, "word": repr(word[:40]), "names": ", ".join(known)})
    return word


View = Annotated[ViewParams, Depends(looked_at)]
