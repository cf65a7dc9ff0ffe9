"""The exceptions that Vezna raises on purpose.

    VeznaError
    ├── Invalid          422  the request is understood and wrong; names the fields and the remedy
    ├── Unauthenticated  401  the request names no user that Vezna knows
    ├── Forbidden        403  the user's role, or the token's scopes, do not permit this
    ├── NotFound         404  there is no such run, study, dataset, …
    ├── Conflict         409  the current state does not allow this
    │   ├── InProgress        the same request is being answered; later it will have an answer
    │   └── OverQuota         a user may not use so much
    ├── TooMany          429  the same was tried too often; says after how many seconds it may be tried again
    ├── Unavailable      503  a required service (database, broker, files) is down
    └── RunFailed             a run failed, with a code from a closed list: `app.domain.failures`

`app.web.http.errors` alone turns them into HTTP; the supervisor alone turns them into a run's failure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.domain.messages import NOTHING, Message


@dataclass(frozen=True)
class FieldError:
    """One wrong field.

    Message and remedy are sentences without their final period: a page may show them as a sentence or in a list.
    """

    path: str
    """As in the request body: `arms.1.method.r`."""
    message: Message
    """What is wrong, and why."""
    remedy: Message = NOTHING

    @property
    def sentence(self) -> Message:
        """What is wrong and what to do."""
        return Message.joined(_ended(part) for part in (self.message, self.remedy) if part)

    @property
    def located(self) -> Message:
        """The sentence with its path before it, where there is no field to show it at."""
        return Message("%(path)s: %(what)s", path=self.path, what=self.sentence) if self.path else self.sentence


@dataclass(frozen=True)
class SyntaxFieldError(FieldError):
    """An error in a text with a grammar."""

    column: int = field(kw_only=True)
    """Its position in the text, from 1."""


def _ended(text: Message) -> Message:
    return text if text.endswith((".", "?", "!")) else Message("%(sentence)s.", sentence=text)


class VeznaError(Exception):
    """Base of the tree. The message is for a person: what is wrong, why, and what to do, in at most two sentences."""

    def __init__(self, message: str, fields: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.message = message if isinstance(message, Message) else Message(message)
        self.fields = tuple(fields)

    def at(self, path: str = "") -> tuple[FieldError, ...]:
        """The errors about its fields; without any, the whole as an error at `path`."""
        return self.fields or (FieldError(path, self.message),)


class Invalid(VeznaError):
    """The request asks for something that cannot be done."""

    @classmethod
    def field(cls, path: str, message: Message, remedy: Message = NOTHING) -> "Invalid":
        return cls.of([FieldError(path, message, remedy)])

    @classmethod
    def of(cls, fields: Sequence[FieldError]) -> "Invalid":
        """An error about several fields, which says what all of them say."""
        return cls(Message.joined([field.sentence for field in fields]), fields)


class Unauthenticated(VeznaError):
    """The request names no user that Vezna knows."""


class Forbidden(VeznaError):
    """The user's role, or the token's scopes, do not permit this."""


class NotFound(VeznaError):
    """Vezna knows nothing of this name or id."""


class Conflict(VeznaError):
    """The current state does not allow this."""


class InProgress(Conflict):
    """The same request is being answered; sent again later, it gets the same answer."""


class OverQuota(Conflict):
    """A user's quota has no room for a request."""


class TooMany(VeznaError):
    """The same was tried too often."""

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class Unavailable(VeznaError):
    """A required service is down; trying again later may work."""


def first_line(error: BaseException) -> str:
    """The first line of what a library's error says, without a period or colon at its end; the error's class where it
    says nothing."""
    return str(error).strip().split("\n")[0].rstrip(".: ") or type(error).__name__
