"""What one says of prices on a study's page, as it stands in the fields and in the address."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from app.domain.comparison.break_even import Prices
from app.domain.errors import FieldError
from app.domain.messages import Message
from app.web.numbers import NotANumber, parse_number, parse_whole

MOST = 1e9
MOST_TASKS = 100_000
CURRENCY = 8
"""Characters of a currency's name."""
FIELDS = ("hour", "kwh", "currency", "gib_month", "months", "tasks")

AMOUNTS = ("hour", "kwh", "gib_month", "months")


@dataclass(frozen=True)
class PricesForm:
    """Words as they were typed; empty where nobody said."""

    hour: str = ""
    kwh: str = ""
    currency: str = ""
    gib_month: str = ""
    months: str = ""
    tasks: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields."""
        return FIELDS

    @property
    def errors(self) -> Mapping[str, tuple[FieldError, ...]]:
        """What is wrong, by field."""
        found: dict[str, tuple[FieldError, ...]] = {}
        for name in AMOUNTS:
            if (number := _number(getattr(self, name))) is None or number > MOST:
                message = Message("%(word)r is not an amount", word=getattr(self, name)[:20])
                found[name] = (FieldError(name, message, Message("Use a number from 0, such as 1.50")),)
        if self._tasks is None:
            remedy = Message("Use a whole number from 1 to %(most)s", most=MOST_TASKS)
            message = Message("%(word)r is not a number of tasks", word=self.tasks[:20])
            found["tasks"] = (FieldError("tasks", message, remedy),)
        if len(self.currency) > CURRENCY:
            remedy = Message("Use at most %(most)s characters, such as EUR", most=CURRENCY)
            message = Message("%(word)r is too long", word=self.currency[:20])
            found["currency"] = (FieldError("currency", message, remedy),)
        return found

    def errors_of(self, name: str) -> tuple[FieldError, ...]:
        """Of one field."""
        return self.errors.get(name, ())

    @property
    def prices(self) -> Prices:
        """What they mean; what is wrong or empty is as usual."""
        usual = Prices()
        wrong = self.errors
        said = {
            name: number
            for name in AMOUNTS
            if name not in wrong and getattr(self, name) and (number := _number(getattr(self, name))) is not None
        }
        return Prices(
            hour=said.get("hour", usual.hour),
            kwh=said.get("kwh", usual.kwh),
            gib_month=said.get("gib_month", usual.gib_month),
            months=said.get("months", usual.months),
        )

    @property
    def money(self) -> str:
        """The currency's name, cut where it is too long."""
        return self.currency.strip()[:CURRENCY]

    @property
    def many(self) -> int:
        """Tasks, 10 where nobody said."""
        return self._tasks or 10

    @property
    def _tasks(self) -> int | None:
        try:
            tasks = parse_whole(self.tasks.strip() or "10")
        except NotANumber:
            return None
        return tasks if 1 <= tasks <= MOST_TASKS else None

    @property
    def query(self) -> str:
        """The words that were said, for the address of the figure's files."""
        words = {name: word for name in FIELDS if (word := getattr(self, name))}
        return f"?{urlencode(words)}" if words else ""


def _number(text: str) -> float | None:
    """A number that is not negative; 0 for an empty text, None for anything else."""
    try:
        number = parse_number(text.strip() or "0")
    except NotANumber:
        return None
    return number if number >= 0 else None
