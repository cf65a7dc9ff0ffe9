"""Who sees the rows of a table, as its class says in `seen` (`app.store.database.ownership` filters by it)."""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class BelongsTo:
    """A row that belongs to another one: who sees that one sees it too."""

    table: str
    """Table of the other row, which has an owner, or is itself part of one that has."""
    column: str
    """The column that names the other row."""


Seen = BelongsTo | Literal["owned", "unfiltered"]
OWNED: Final = "owned"
"""Everyone, or the owner alone (`app.store.database.owned.Owned`)."""
UNFILTERED: Final = "unfiltered"
"""No condition is added: rows of accounts and of the installation, or those whose own queries filter."""
OF_RUN: Final = BelongsTo("runs", "run_id")
OF_STUDY: Final = BelongsTo("studies", "study_id")
