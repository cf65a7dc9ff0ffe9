"""What stands above a list of runs: the filter with its mistake, examples, the choice of columns and of groups."""

from dataclasses import dataclass, replace

from app.web.i18n import gettext as _
from app.web.i18n import localized
from app.web.pages.runs.view_form import CHOICES, GROUPED, RunsView
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
    """A box to tick."""

    name: str
    title: str
    chosen: bool


@dataclass(frozen=True)
class Mistake:
    """What is wrong with a filter, drawn below it."""

    before: str
    """The filter up to the place."""
    after: str
    caret: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Baseline:
    """The run that the others are held against."""

    id: int
    words: str
    unpin: str


@dataclass(frozen=True)
class RunsHead:
    """Filter, columns, groups, baseline."""

    view: RunsView
    words: str
    """How many there are."""
    any: bool
    """There is a run at all, whatever the filter says."""
    any_archived: bool
    baseline: Baseline | None

    @property
    def filtered(self) -> bool:
        """A filter is in force."""
        return bool(self.view.filter)

    @property
    def mistake(self) -> Mistake | None:
        """What is wrong with the filter."""
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
        """Filters to begin with, and their addresses."""
        return [(text, self.view.address().to({"filter": text, "open": ""})) for text in EXAMPLES]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Columns."""
        return tuple(Choice(name, title(name), name in self.view.columns) for name in CHOICES)

    @property
    def columns_words(self) -> str:
        """`Columns: 9 of 38`."""
        return _("Columns: %(chosen)s of %(all)s", chosen=len(self.view.columns), all=len(CHOICES))

    @property
    def usual_columns(self) -> str:
        """The address with the usual columns."""
        return self.view.address().to({"columns": ""})

    def kept(self, *names: str) -> list[tuple[str, str]]:
        """Words that a form whose fields have these names must keep."""
        return self.view.address().beside("open", *names)

    def grouped(self, wanted: bool) -> str:
        """The address with groups, or with runs."""
        return self.view.address().to({"group": GROUPED if wanted else "", "sort": "", "open": ""})

    @property
    def unfiltered(self) -> str:
        """The address without the filter."""
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
        """The same as a file."""
        return self.view.address("/runs.csv").to({"open": ""})
