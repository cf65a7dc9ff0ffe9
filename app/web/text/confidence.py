"""How sure intervals are that were corrected for several comparisons, in words.

The 95 % (more of a study that was looked at before) are those of all comparisons together: the chance that any arm
without a true difference is called different is 5 % at most. Each interval is wider for that, and its own confidence is
named beside it.
"""

from collections.abc import Collection

from app.domain.comparison.intervals import CONFIDENCE
from app.web.format import confidence
from app.web.i18n import gettext as _

HOLM = "Holm"
BONFERRONI = "Bonferroni"
"""Names of the corrections (1979, 1936)."""


def over_all(together: float, each: Collection[float], correction: str = HOLM) -> str:
    """`95 %` of one comparison; of several `95 % over all 3 comparisons (Holm: 97.5 % to 98.33 % each)`."""
    if len(each) < 2:
        return confidence(together)
    low, high = confidence(min(each)), confidence(max(each))
    return _(
        "%(together)s over all %(n)s comparisons (%(correction)s: %(each)s each)",
        together=confidence(together),
        n=len(each),
        correction=correction,
        each=high if low == high else _("%(low)s to %(high)s", low=low, high=high),
    )


def plus_minus_is(together: float, each: Collection[float], correction: str = HOLM) -> str:
    """What ± stands for in a table of arms: a score's interval is its own, differences share theirs."""
    level, single = over_all(together, each, correction), confidence(CONFIDENCE)
    if level == single:
        return _("± is a %(level)s interval.", level=level)
    return _("± of a score is a %(single)s interval; of a difference it is %(level)s.", single=single, level=level)
