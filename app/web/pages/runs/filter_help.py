"""The context of the page that lists what a filter of runs may say."""

from dataclasses import dataclass

from app.domain.runs.fields import FIELDS, UNITS
from app.domain.runs.filters import STATES
from app.web.pages.runs.head import EXAMPLES
from app.web.text.run_fields import title


@dataclass(frozen=True)
class FilterField:
    """A field: its names, what it is, what it is held against."""

    names: tuple[str, ...]
    title: str
    kind: str
    units: tuple[str, ...]


@dataclass(frozen=True)
class FilterWordsPage:
    """Everything that a filter may say."""

    @property
    def fields(self) -> list[FilterField]:
        """In the order of the domain."""
        return [
            FilterField((name, *f.also), title(name), f.kind, tuple(UNITS.get(f.kind, ())))
            for name, f in FIELDS.items()
        ]

    @property
    def states(self) -> tuple[str, ...]:
        """Words that stand alone."""
        return STATES

    @property
    def examples(self) -> tuple[str, ...]:
        """Filters to begin with."""
        return EXAMPLES
