"""What a feature adds to services, in its module `hooks` (`app.feature`)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy.orm import Session

from app import feature
from app.services.workers.work import WorkKind


@dataclass(frozen=True, eq=False)
class Hooks:
    """What services call. A hook that a feature does not need keeps its default, which does nothing."""

    work: tuple[WorkKind[Any], ...] = ()
    """Work that is claimed on request, for which the sweep rings again."""
    sweep: Callable[[Session], object] = lambda session: None
    """Called at the end of each sweep."""
    secrets: Callable[[Session], Iterable[tuple[Any, str]]] = lambda session: ()
    """Rows with an encrypted secret, and its attribute, to encrypt by another key."""


@cache
def _of(names: tuple[str, ...]) -> tuple[Hooks, ...]:
    return tuple(module.HOOKS for module in feature.modules("hooks", names))


def hooks() -> tuple[Hooks, ...]:
    """Of the active features."""
    return _of(feature.active())
