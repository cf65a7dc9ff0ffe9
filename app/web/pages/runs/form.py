"""Query parameters of a list of runs: filter, order, columns, grouping, baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.runs.listing.fields import FIELDS, NAMES
from app.domain.runs.listing.filter_tokens import FilterError
from app.domain.runs.listing.filters import VISIBLE, Condition, Every, parse, without_archived
from app.store.database.page import LARGEST_ID
from app.store.runs.columns import SHOWN, SORTABLE
from app.store.runs.groups import OWN, SUMMED
from app.store.runs.listing import NEWEST, Order
from app.web.address import Address

DEFAULT = ("study", "score", "peak", "train", "seed", "learning_rate", "status", "tag", "started_at")
CHOICES = tuple(name for name in FIELDS if name in (*SHOWN, "tag") and name != "id")
"""Columns that can be chosen; the id and the arm are always shown."""
GROUPED = "seed"
"""The value of `group` for groups of runs that differ only in the seed."""
EXAMPLES = (
    'accuracy > 0.9 and method = "lora" and not failed',
    "peak < 2 GiB and train < 5 min",
    "failed or cancelled",
    "learning_rate in (2e-4, 2e-3)",
    'arm ~ "r=8"',
)
MOST_OPEN = 20


@dataclass(frozen=True)
class ViewParams:
    """The parameters, validated. Unknown values count as absent, so that old links still work; an invalid filter is
    an error."""

    filter: str = ""
    condition: Condition | None = None
    error: FilterError | None = None
    order: Order = NEWEST
    columns: tuple[str, ...] = DEFAULT
    grouped: bool = False
    baseline: int | None = None
    open: tuple[int, ...] = ()
    """First runs of the expanded groups."""

    @classmethod
    def of(
        cls, filter: str, sort: str, columns: Sequence[str], group: str, baseline: str, open_groups: str
    ) -> "ViewParams":
        condition, error, text = None, None, filter.strip()
        try:
            condition = without_archived(parse(text))
        except FilterError as mistake:
            error = mistake
        grouped = group == GROUPED
        named = [NAMES[name].name for part in columns for name in part.split(",") if name in NAMES]
        chosen = tuple(name for name in CHOICES if name in named)
        return cls(
            filter=text,
            condition=condition,
            error=error,
            order=order_of(sort, grouped=grouped),
            columns=chosen or DEFAULT,
            grouped=grouped,
            baseline=_number(baseline),
            open=tuple(n for part in open_groups.split(",")[:MOST_OPEN] if (n := _number(part)) is not None),
        )

    @property
    def hides_archived(self) -> bool:
        """The filter does not mention archived runs, so the list leaves them out."""
        return self.condition == VISIBLE or (isinstance(self.condition, Every) and VISIBLE in self.condition.parts)

    def address(self, path: str = "/runs") -> Address:
        words = {
            "filter": self.filter,
            "sort": "" if self.order == unsorted(grouped=self.grouped) else str(self.order),
            "columns": "" if self.columns == DEFAULT else ",".join(self.columns),
            "group": GROUPED if self.grouped else "",
            "baseline": "" if self.baseline is None else str(self.baseline),
            "open": ",".join(map(str, self.open)),
        }
        return Address(path, tuple((name, word) for name, word in words.items() if word))


def unsorted(*, grouped: bool) -> Order:
    """The default order: newest runs first, best groups first."""
    return Order("score", True) if grouped else NEWEST


def order_of(sort: str, *, grouped: bool) -> Order:
    """From `peak` (ascending) or `-score` (descending)."""
    field = NAMES.get(sort.removeprefix("-"))
    name = field.name if field else sort.removeprefix("-")
    if name in ((*SUMMED, *OWN) if grouped else SORTABLE):
        return Order(name, sort.startswith("-"))
    return unsorted(grouped=grouped)


def falls_first(name: str) -> bool:
    """Whether sorting by a field starts with the largest value, so that the best comes first."""
    return name in OWN or not FIELDS[name].rises


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 11 and int(text) <= LARGEST_ID else None
