"""Fakes: small, without I/O."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import OperationalError

from app.broker.queue import Doorbell


@dataclass
class SilentBell(Doorbell):
    """A doorbell that nobody hears; it remembers what it was rung for."""

    rung: list[tuple[Any, ...]] = field(default_factory=list)
    there: bool = True

    def ring(self, task: str, *args: Any) -> bool:
        """Remember."""
        self.rung.append((task, *args))
        return self.there

    def answers(self) -> bool:
        """As told."""
        return self.there


@dataclass
class WorkingBell(SilentBell):
    """A doorbell that has one task done at once."""

    task: str = ""
    work: Callable[..., object] = print

    def ring(self, task: str, *args: Any) -> bool:
        """Work, and remember."""
        if task == self.task:
            self.work(*args)
        return super().ring(task, *args)


class Refused(Exception):
    """What a driver raises, with PostgreSQL's code."""

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@dataclass
class UndoneOnce:
    """A change that the database undoes the first time, after it was made: by a deadlock."""

    change: Callable[..., Any]
    tries: int = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Change."""
        self.tries += 1
        result = self.change(*args, **options)
        if self.tries == 1:
            raise OperationalError("UPDATE", {}, Refused("deadlock detected", "40P01"))
        return result
