"""The query parameters of a study's page: what its figures show, and the prices of the break-even."""

from collections.abc import Collection, Mapping
from typing import Annotated
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

from app.domain.comparison.costs.break_even import Prices
from app.domain.errors import FieldError, Invalid
from app.domain.messages import Message
from app.web.figures.curves.axes import QUANTITIES, X_AXES
from app.web.figures.drawing.axes import AXES
from app.web.figures.studies.arms_table import SORTS
from app.web.numbers import NotANumber, parse_number, parse_whole
from app.words.i18n import marked
from app.words.runs.weight_delta import MEASURES

MOST = 1e9
MOST_TASKS = 100_000
USUAL_TASKS = 10
CURRENCY = 8
"""Characters of a currency's name."""
AMOUNTS = ("hour", "kwh", "gib_month", "months")
PRICES = ("hour", "kwh", "currency", "gib_month", "months", "tasks")
MOST_SMOOTH = 0.999


class PriceParams(BaseModel):
    """The fields of the break-even as they were typed; empty ones have their usual values."""

    model_config = ConfigDict(frozen=True)

    hour: str = ""
    kwh: str = ""
    currency: str = ""
    gib_month: str = ""
    months: str = ""
    tasks: str = ""

    @property
    def price_fields(self) -> tuple[str, ...]:
        return PRICES

    @property
    def errors(self) -> Mapping[str, tuple[FieldError, ...]]:
        errors: dict[str, tuple[FieldError, ...]] = {}

        def wrong(name: str, template: str, remedy: Message) -> None:
            errors[name] = (FieldError(name, Message(template, word=getattr(self, name)[:20]), remedy),)

        for name in AMOUNTS:
            if (number := _amount(getattr(self, name))) is None or number > MOST:
                wrong(name, marked("%(word)r is not an amount"), Message("Use a number from 0, such as 1.50"))
        if self._tasks is None:
            remedy = Message("Use a whole number from 1 to %(most)s", most=MOST_TASKS)
            wrong("tasks", marked("%(word)r is not a number of tasks"), remedy)
        if len(self.currency) > CURRENCY:
            remedy = Message("Use at most %(most)s characters, such as EUR", most=CURRENCY)
            wrong("currency", marked("%(word)r is too long"), remedy)
        return errors

    def errors_of(self, name: str) -> tuple[FieldError, ...]:
        return self.errors.get(name, ())

    @property
    def prices(self) -> Prices:
        """The amounts; the usual ones for fields that are empty or wrong."""
        amounts = {name: _amount(getattr(self, name)) for name in AMOUNTS if getattr(self, name)}
        wrong = self.errors
        return Prices(**{name: n for name, n in amounts.items() if n is not None and name not in wrong})

    @property
    def money(self) -> str:
        """The currency's name, cut where it is too long."""
        return self.currency.strip()[:CURRENCY]

    @property
    def many(self) -> int:
        return self._tasks or USUAL_TASKS

    @property
    def _tasks(self) -> int | None:
        try:
            tasks = parse_whole(self.tasks.strip() or str(USUAL_TASKS))
        except NotANumber:
            return None
        return tasks if 1 <= tasks <= MOST_TASKS else None


def _amount(text: str) -> float | None:
    """A number that is not negative; 0 for an empty text, None for anything else."""
    try:
        number = parse_number(text.strip() or "0")
    except NotANumber:
        return None
    return number if number >= 0 else None


def one_of(field: str, word: str, choices: Collection[str]) -> str:
    """The word, if it is one of the choices. Raises Invalid, naming the field and the choices."""
    if word not in choices:
        text = "%(field)s: there is no %(word)r; choose from %(names)s"
        raise Invalid(Message(text, field=field, word=word[:40], names=", ".join(choices)))
    return word


def _factor(word: object) -> float:
    """The smoothing factor. Raises Invalid unless the word is one."""
    try:
        factor = parse_number(str(word or 0))
    except NotANumber:
        factor = -1.0
    if not 0 <= factor <= MOST_SMOOTH:
        text = "smooth: %(word)r is not a smoothing factor; choose from 0 (none) to %(most)s"
        raise Invalid(Message(text, word=str(word)[:40], most=MOST_SMOOTH))
    return factor


class ViewParams(PriceParams):
    """What a study's page shows, and in which order its arms stand."""

    sort: str = ""
    """A column of the table of arms, with `-` before it where it falls; empty for the order of the study."""
    x: str = "memory"
    y: str = "score"
    """Axes of the trade-off, names of `app.web.figures.drawing.axes.AXES`."""
    curve: str = "loss"
    by: str = "step"
    """Axes of the curves over training, names of `app.web.figures.curves.axes`."""
    smooth: Annotated[float, BeforeValidator(_factor)] = 0.0
    """The smoothing factor of the curves, from 0 (none) to below 1."""
    matrices: str = "effective-rank"
    """The number of each matrix that is mapped, a name of `app.words.runs.weight_delta.MEASURES`."""
    matrices_arm: str = ""
    """Whose; empty for the first arm that has any."""

    @field_validator("sort")
    @classmethod
    def _sorts(cls, sort: str) -> str:
        if sort:
            one_of("sort", sort.removeprefix("-"), SORTS)
        return sort

    @field_validator("x", "y", "curve", "by", "matrices", mode="before")
    @classmethod
    def _known(cls, word: str, info: ValidationInfo) -> str:
        name = str(info.field_name)
        return one_of(name, word, CHOICES[name]) if word else str(cls.model_fields[name].default)

    def query(self, figure: str) -> str:
        """The query of a figure's files: what it depends on."""
        words = {name: getattr(self, name) for name in DEPENDS.get(figure, ())}
        if "smooth" in words:
            words["smooth"] = f"{self.smooth:g}" if self.smooth else ""
        words = {name: word for name, word in words.items() if word}
        return f"?{urlencode(words)}" if words else ""


CHOICES: Mapping[str, Collection[str]] = {
    "x": AXES,
    "y": AXES,
    "curve": QUANTITIES,
    "by": X_AXES,
    "matrices": MEASURES,
}
"""Parameters that are one of some words; an empty one has its usual value."""
DEPENDS = {
    "trade-off": ("x", "y"),
    "curves": ("curve", "by", "smooth"),
    "matrices": ("matrices", "matrices_arm"),
    "break-even": PRICES,
}
"""The parameters that a figure depends on."""
USUAL = ViewParams()
