"""The exceptions that Vezna raises on purpose.

    VeznaError
    ├── Invalid          422  the request is understood and wrong; names the fields and the remedy
    ├── NotFound         404  no such run, study, dataset, …
    ├── Conflict         409  the thing is not in a state that allows it
    ├── Unavailable      503  a part that is needed is away (database, broker, files)
    └── RunFailed             a run's end, with a code of the closed list `runs.FailureCode`

`app.web.http.errors` alone turns them into HTTP; the supervisor alone turns them into a run's failure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.domain.runs.spec import FailureCode


class VeznaError(Exception):
    """Base of the tree. The message is a sentence for a person: what, why, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class FieldError:
    """One wrong field: `path` as in the request body (`arms.1.method.r`), what is wrong, what to do."""

    path: str
    message: str
    remedy: str = ""
    column: int | None = None
    """Where in a text that is read by a grammar, from 1."""


class Invalid(VeznaError):
    """The request says something that cannot be done."""

    def __init__(self, message: str, fields: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.fields = tuple(fields)

    @classmethod
    def field(cls, path: str, message: str, remedy: str = "") -> "Invalid":
        """An error about a single field."""
        return cls(message, (FieldError(path, message, remedy),))

    @classmethod
    def of(cls, fields: Sequence[FieldError]) -> "Invalid":
        """One error about several fields, which says what all of them say."""
        return cls("; ".join(field.message for field in fields), fields)


class NotFound(VeznaError):
    """There is no such thing."""


class Conflict(VeznaError):
    """The thing is there, and not in a state that allows this."""


class Unavailable(VeznaError):
    """A part that this needs is away for now; trying again later is right."""


class RunFailed(VeznaError):
    """A run cannot go on. `code` is from the closed list; the message says what happened and what to do."""

    def __init__(self, code: "FailureCode", message: str) -> None:
        super().__init__(message)
        self.code = code
