"""What was predicted beside what was measured, in a figure's table."""

from collections.abc import Callable

from app.domain.resources.calibration import EstimateBand, relative_error
from app.web.figures.figure import Cell, Column
from app.web.format import signed_percent
from app.web.i18n import gettext as _


def estimated_columns(title: str, unit: str, show: Callable[[float | None], str]) -> tuple[Column, ...]:
    """The prediction, the ends of its band, and how far it was off; `unit` ends the names: `bytes`."""
    return (
        Column(f"estimated_{unit}", title, show),
        Column(f"estimated_low_{unit}", _("from"), show),
        Column(f"estimated_high_{unit}", _("to"), show),
        Column("error", _("error"), signed_percent),
    )


def estimated_cells(found: EstimateBand | None, measured: float) -> tuple[Cell, ...]:
    """The cells of these columns; empty ones where nothing was predicted."""
    if found is None:
        return (None,) * 4
    return (found.value, found.low, found.high, relative_error(found.value, measured) if measured else None)
