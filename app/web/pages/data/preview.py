"""The part of a dataset's page that shows rows as a base model sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from app.domain.data.previews import MOST_TOKENS, Preview, PreviewRow, SplitLengths
from app.domain.errors import FieldError
from app.domain.tasks import TASKS
from app.store.tables import EstimateRow
from app.web.figures import Drawn
from app.web.format import capitalized, count
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.pages.data.preview_form import PreviewForm
from app.web.text.data import SPLITS

Group = tuple[bool, list[tuple[str, bool]]]
"""Whether the loss is taken of these tokens, and each one's text and whether it is a special one."""


@dataclass(frozen=True)
class RowView:
    """A row."""

    row: PreviewRow
    labels: Sequence[str]

    @property
    def head(self) -> str:
        """Split and length."""
        number = ngettext("%(num)s token", "%(num)s tokens", self.row.length, num=count(self.row.length))
        return _("%(split)s, %(tokens)s", split=_(SPLITS[self.row.split]), tokens=number)

    @property
    def label(self) -> str:
        """What it is to be told apart as; empty of rows without labels."""
        return self.labels[self.row.label] if self.row.label is not None else ""

    @property
    def groups(self) -> list[Group]:
        """Runs of tokens that are learnt, and that are not."""
        found = groupby(self.row.tokens, key=lambda token: token.learnt)
        return [
            (learnt, [(token.text.strip() if token.special else token.text, token.special) for token in tokens])
            for learnt, tokens in found
        ]

    @property
    def cut(self) -> str:
        """What is not kept, in a sentence; empty if all is."""
        beyond = self.row.length - self.row.kept
        text = "%(num)s token beyond max_length is cut", "%(num)s tokens beyond max_length are cut"
        return ngettext(*text, beyond, num=count(beyond)) if beyond else ""

    @property
    def more(self) -> str:
        """What is kept and not shown here; empty if all is shown."""
        rest = self.row.kept - len(self.row.tokens)
        return _("… and %(rest)s more", rest=count(rest)) if len(self.row.tokens) == MOST_TOKENS and rest > 0 else ""


@dataclass(frozen=True)
class PreviewView:
    """Through which model one looks, and what it sees."""

    form: PreviewForm
    models: list[tuple[str, str]]
    """To choose from."""
    tasks: list[str]
    asks: bool
    """The rows have prompts, of which a loss may be taken or not."""
    labels: Sequence[str]
    estimate: EstimateRow | None = None
    """None if nothing could be asked."""
    figure: Drawn | None = None
    errors: tuple[FieldError, ...] = ()

    @property
    def task_options(self) -> list[tuple[str, str]]:
        """Tasks with their titles."""
        return [(task, capitalized(_(TASKS[task].title))) for task in self.tasks]  # type: ignore[index]

    @property
    def working(self) -> bool:
        """It is being worked out."""
        return self.estimate is not None and self.estimate.status in ("queued", "working")

    @property
    def failed(self) -> str:
        """Why there is no answer."""
        found = self.estimate
        return found.message if found is not None and found.status == "failed" else ""

    @property
    def found(self) -> Preview | None:
        """The answer."""
        return self.estimate.preview if self.estimate else None

    @property
    def rows(self) -> list[RowView]:
        """Some rows."""
        return [RowView(row, self.labels) for row in self.found.rows] if self.found else []

    @property
    def learns(self) -> bool:
        """There are tokens that are learnt; else labels are."""
        return any(token.learnt for row in (self.found.rows if self.found else []) for token in row.tokens)

    @property
    def lengths(self) -> list[SplitLengths]:
        """How long rows are."""
        return self.found.lengths if self.found else []

    @property
    def max_length(self) -> int:
        """Tokens that a row may keep; only once an answer is there."""
        return self.form.length

    def errors_of(self, path: str) -> list[FieldError]:
        """What is wrong with a field."""
        return [error for error in self.errors if error.path == path]
