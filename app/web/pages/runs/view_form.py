"""How a list of runs is looked at: filter, order, columns, groups, baseline. All of it is in the address."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.runs.fields import FIELDS, NAMES
from app.domain.runs.filter_tokens import FilterError
from app.domain.runs.filters import VISIBLE, Condition, Every, parse, without_archived
from app.store.queries.page import LARGEST_ID
from app.store.queries.run_columns import SHOWN, SORTABLE
from app.store.queries.run_groups import OWN, SUMMED
from app.store.queries.run_list import NEWEST, Order
from app.web.address import Address

DEFAULT = ("study", "score", "peak", "train", "seed", "learning_rate", "status", "tag", "started_at")
"""Columns unless others are chosen."""
CHOICES = tuple(name for name in FIELDS if name in (*SHOWN, "tag") and name != "id")
"""Columns that can be chosen; a run's number and its arm stand at the head of its row."""
GROUPED = "seed"
"""The word of the address for groups of runs that are alike but for the seed."""
MOST_OPEN = 20


@dataclass(frozen=True)
class RunsView:
    """What the address says. A word that means nothing asks for nothing, so an old link still shows runs; a filter that
    cannot be read is told."""

    filter: str = ""
    condition: Condition | None = None
    error: FilterError | None = None
    order: Order = NEWEST
    columns: tuple[str, ...] = DEFAULT
    grouped: bool = False
    baseline: int | None = None
    open: tuple[int, ...] = ()
    """First runs of the groups whose runs are shown."""

    @classmethod
    def of(
        cls, filter: str, sort: str, columns: Sequence[str], group: str, baseline: str, open_groups: str
    ) -> "RunsView":
        """From the words of an address."""
        condition, error, text = None, None, filter.strip()
        try:
            condition = without_archived(parse(text))
        except FilterError as found:
            error = found
        grouped = group == GROUPED
        asked = [NAMES[name].name for part in columns for name in part.split(",") if name in NAMES]
        chosen = tuple(name for name in CHOICES if name in asked)
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
        """Where the same is seen."""
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
    """The order where none is asked for: the newest runs, the best groups."""
    return Order("score", True) if grouped else NEWEST


def order_of(sort: str, *, grouped: bool) -> Order:
    """`peak` rises, `-score` falls."""
    field = NAMES.get(sort.removeprefix("-"))
    name = field.name if field else sort.removeprefix("-")
    if name in ((*SUMMED, *OWN) if grouped else SORTABLE):
        return Order(name, sort.startswith("-"))
    return unsorted(grouped=grouped)


def falls_first(name: str) -> bool:
    """Whether an order by a field begins with the largest: what one looks for comes first."""
    return name in OWN or not FIELDS[name].rises


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 11 and int(text) <= LARGEST_ID else None
