"""The options of the selects on a study's page."""

from dataclasses import dataclass

from app.domain.comparison.study import StudyComparison
from app.web.figures.axes import axis_options
from app.web.figures.curve_axes import QUANTITIES, X_AXES
from app.web.figures.view import ViewParams
from app.web.format import capitalized
from app.web.i18n import gettext as _

Choice = tuple[str, str]
"""Value and title."""
FACTORS = (0.0, 0.6, 0.9, 0.97, 0.99)


@dataclass(frozen=True)
class StudyChoices:
    """Values and titles, those in force among them."""

    axes: tuple[Choice, ...]
    quantities: tuple[Choice, ...]
    x_axes: tuple[Choice, ...]
    factors: tuple[Choice, ...]

    @classmethod
    def of(cls, study: StudyComparison, view: ViewParams) -> "StudyChoices":
        """Of a study; axes on which nothing was measured are left out."""
        factors = sorted({*FACTORS, view.smooth})
        return cls(
            axes=axis_options(study, view.x, view.y),
            quantities=tuple((name, capitalized(quantity.title(study))) for name, quantity in QUANTITIES.items()),
            x_axes=tuple((name, capitalized(axis.name())) for name, axis in X_AXES.items()),
            factors=tuple((f"{factor:g}", f"{factor:g}" if factor else _("none")) for factor in factors),
        )
