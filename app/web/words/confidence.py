"""How sure intervals are that were corrected for several comparisons, in words.

The 95 % are those of all comparisons together: the chance that any arm without a true difference is called different is
5 % at most. Each interval is wider than a 95 % one for that, and its own confidence is named beside it.
"""

from collections.abc import Collection

from app.domain.intervals import CONFIDENCE
from app.web.i18n import gettext as _
from app.web.numbers import decimal, percent

HOLM = "Holm"
BONFERRONI = "Bonferroni"
"""Names of the corrections (1979, 1936)."""


def over_all(confidences: Collection[float], correction: str = HOLM) -> str:
    """`95 %` of one comparison; of several `95 % over all 3 comparisons (Holm: 97.5 to 98.3 % each)`."""
    together = percent(CONFIDENCE, 0)
    if len(confidences) < 2:
        return together
    return _(
        "%(together)s over all %(n)s comparisons (%(correction)s: %(each)s each)",
        together=together,
        n=len(confidences),
        correction=correction,
        each=_each(confidences),
    )


def plus_minus_is(confidences: Collection[float], correction: str = HOLM) -> str:
    """What ± stands for in a table of arms: a score's interval is its own, differences share theirs."""
    level, single = over_all(confidences, correction), percent(CONFIDENCE, 0)
    if len(confidences) < 2:
        return _("± is a %(level)s interval.", level=level)
    return _("± of a score is a %(single)s interval; of a difference it is %(level)s.", single=single, level=level)


def _each(confidences: Collection[float]) -> str:
    lowest, highest = min(confidences), max(confidences)
    digits = 2 if highest >= 0.999 else 1  # 99.95 % of a hundred comparisons is not 100 %
    low, high = decimal(100 * lowest, digits), percent(highest, digits)
    return high if percent(lowest, digits) == high else _("%(low)s to %(high)s", low=low, high=high)
