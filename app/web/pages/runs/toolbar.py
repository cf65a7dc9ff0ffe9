"""The toolbar of a list of runs (filter, columns, grouping, baseline), and the help on filters."""

from dataclasses import dataclass, replace

from app.domain.runs.fields import FIELDS, UNITS
from app.domain.runs.filters import STATES
from app.web.i18n import gettext as _
from app.web.i18n import localized
from app.web.pages.runs.form import CHOICES, GROUPED, ViewParams
from app.web.text.run_fields import title

EXAMPLES = (
    'accuracy > 0.9 and method = "lora" and not failed',
    "peak < 2 GiB and train < 5 min",
    "failed or cancelled",
    "learning_rate in (2e-4, 2e-3)",
    'arm ~ "r=8"',
)


@dataclass(frozen=True)
class Choice:
    """A column that can be chosen."""

    name: str
    title: str
    chosen: bool


@dataclass(frozen=True)
class Mistake:
    """A syntax error of the filter, marked at its place."""

    before: str
    """The filter up to the error."""
    after: str
    caret: str
    what: str
    remedy: str


@dataclass(frozen=True)
class BaselineLabel:
    """The run that the others are compared with."""

    id: int
    words: str
    unpin: str


@dataclass(frozen=True)
class Toolbar:
    """Filter, columns, grouping, baseline."""

    view: ViewParams
    words: str
    """Number of runs and groups."""
    any: bool
    """There is a run, whatever the filter says."""
    any_archived: bool
    baseline: BaselineLabel | None

    @property
    def filtered(self) -> bool:
        """The list is filtered."""
        return bool(self.view.filter)

    @property
    def mistake(self) -> Mistake | None:
        """The syntax error of the filter, if it has one."""
        error = self.view.error
        if error is None:
            return None
        place = error.column - 1
        return Mistake(
            before=self.view.filter[:place],
            after=self.view.filter[place:],
            caret=" " * place + "^",
            what=localized(error.fields[0].message),
            remedy=localized(error.fields[0].remedy),
        )

    @property
    def examples(self) -> list[tuple[str, str]]:
        """Example filters with their addresses."""
        return [(text, self.view.address().to({"filter": text, "open": ""})) for text in EXAMPLES]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Every column, and whether it is shown."""
        return tuple(Choice(name, title(name), name in self.view.columns) for name in CHOICES)

    @property
    def columns_label(self) -> str:
        """`Columns: 9 of 38`."""
        return _("Columns: %(chosen)s of %(all)s", chosen=len(self.view.columns), all=len(CHOICES))

    @property
    def default_columns(self) -> str:
        """The address with the default columns."""
        return self.view.address().to({"columns": ""})

    def kept(self, *names: str) -> list[tuple[str, str]]:
        """Query parameters that a form with fields of these names must keep."""
        return self.view.address().beside("open", *names)

    def grouped(self, wanted: bool) -> str:
        """The address of the list with groups, or without."""
        return self.view.address().to({"group": GROUPED if wanted else "", "sort": "", "open": ""})

    @property
    def unfiltered(self) -> str:
        """The address of the unfiltered list."""
        return replace(self.view, filter="", open=()).address().to({})

    @property
    def archived(self) -> str:
        """The address of the same list with archived runs alone; empty if there are none, or they are shown."""
        if not (self.any_archived and self.view.hides_archived):
            return ""
        text = f"({self.view.filter}) and archived" if self.view.filter else "archived"
        return self.view.address().to({"filter": text, "open": ""})

    @property
    def csv(self) -> str:
        """The address of the list as a CSV file."""
        return self.view.address("/runs.csv").to({"open": ""})


@dataclass(frozen=True)
class FilterField:
    """A field of a filter: its names, its title, its kind and the units of its values."""

    names: tuple[str, ...]
    title: str
    kind: str
    units: tuple[str, ...]


@dataclass(frozen=True)
class FilterHelpPage:
    """Everything that a filter may contain."""

    states: tuple[str, ...] = STATES
    examples: tuple[str, ...] = EXAMPLES

    @property
    def fields(self) -> list[FilterField]:
        """In the order of the domain."""
        return [
            FilterField((name, *f.also), title(name), f.kind, tuple(UNITS.get(f.kind, ())))
            for name, f in FIELDS.items()
        ]
