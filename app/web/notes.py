"""What people wrote on a run or a study: as it is shown, and as it is changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.domain.errors import FieldError
from app.domain.runs.annotations import LONGEST_NOTE, MOST_TAGS
from app.web.i18n import gettext as _

Owner = Literal["runs", "studies"]
"""As an address has them."""


@dataclass(frozen=True)
class Written:
    """A note and tags, and whose they are."""

    owner: Owner
    id: int
    note: str
    tags: tuple[str, ...]

    @property
    def address(self) -> str:
        """Of the run or the study."""
        return f"/{self.owner}/{self.id}"


@dataclass(frozen=True)
class NotesPage:
    """The form in which they are changed, and what is wrong with what was typed."""

    written: Written
    """With the note as it was typed."""
    tags: str
    """As they were typed, with commas between."""
    errors: Sequence[FieldError] = ()

    @property
    def title(self) -> str:
        """Whose notes they are."""
        if self.written.owner == "runs":
            return _("Notes on run %(id)s", id=self.written.id)
        return _("Notes on study %(id)s", id=self.written.id)

    @property
    def limits(self) -> tuple[int, int]:
        """Characters of a note, and tags."""
        return LONGEST_NOTE, MOST_TAGS

    def errors_of(self, field: str) -> list[FieldError]:
        """What is wrong with the note, or with the tags."""
        return [error for error in self.errors if error.path.partition(".")[0] == field]
