"""What one looks at on a study's page. Its words are those of the address, which `app.web.pages.study.view_form`
reads."""

from dataclasses import dataclass, field
from urllib.parse import urlencode

from app.web.figures.prices import PricesForm


@dataclass(frozen=True)
class ViewParams:
    """What is drawn, and in which order the arms stand."""

    sort: str = ""
    """A column's name, with `-` before it where it falls; empty for the order of the study."""
    x: str = "memory"
    y: str = "score"
    """Axes of the trade-off, names of `app.web.figures.axes.AXES`."""
    curve: str = "loss"
    by: str = "step"
    """What is drawn over training, and over what: names in `app.web.figures.quantities`."""
    smooth: float = 0.0
    """How much, from 0 (not at all) to below 1."""
    matrices: str = "effective-rank"
    """Which number of each matrix is mapped, a name of `app.web.text.weight_delta.MEASURES`."""
    matrices_arm: str = ""
    """Whose; empty for the first arm that has any."""
    prices: PricesForm = field(default_factory=PricesForm)
    """What one says of the break-even."""

    @property
    def trade_off(self) -> str:
        """The query of the trade-off's files."""
        return f"?{urlencode({'x': self.x, 'y': self.y})}"

    @property
    def curves(self) -> str:
        """The query of the curves' files."""
        words = {"curve": self.curve, "by": self.by} | ({"smooth": f"{self.smooth:g}"} if self.smooth else {})
        return f"?{urlencode(words)}"

    @property
    def matrix_map(self) -> str:
        """The query of the map's files."""
        return f"?{urlencode({'matrices': self.matrices, 'matrices_arm': self.matrices_arm})}"
