"""Which features are active, and what they add.

The core never imports a feature. A feature's package says what it adds in modules of fixed names, which the core loads:

    app.features.NAME.site       SITE, an `app.web.site.Site`: routers, words, entries of the navigation
    app.features.NAME.hooks      HOOKS, an `app.services.hooks.Hooks`: what services call
    app.features.NAME.commands   register(cli): commands of `vezna`
    app.features.NAME.checks     check(database, settings): the findings of `vezna doctor` once the database answers
    app.features.NAME.tables     rows; the database has them whether or not the feature is active
    app.features.NAME.computations   REQUESTS and ANSWERS, pydantic's adapters of what a worker computes for it
    worker.features.NAME.node    NODE, a `worker.nodes.node.Node`: tasks and threads of a worker
    worker.features.NAME.answer  answer(request, files): the answer to such a request

VEZNA_FEATURES names the active ones, separated by commas: all are active if it is not set or `all`, none if it is
empty.
"""

import os
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from app.domain.errors import Invalid
from app.domain.messages import _
from app.features import FEATURES

VARIABLE = "VEZNA_FEATURES"


def active() -> tuple[str, ...]:
    """Names of the active features. Raises Invalid if VEZNA_FEATURES names one that does not exist."""
    return _named(os.environ.get(VARIABLE))


@cache
def _named(value: str | None) -> tuple[str, ...]:
    if value is None or value == "all":
        return FEATURES
    names = {name.strip() for name in value.split(",")} - {""}
    if unknown := sorted(names - {*FEATURES}):
        raise Invalid(
            _(
                "VEZNA_FEATURES: there is no feature %(unknown)s; there are %(features)s.",
                unknown=", ".join(unknown),
                features=", ".join(FEATURES),
            )
        )
    return tuple(name for name in FEATURES if name in names)


def every() -> tuple[str, ...]:
    """Names of all features, active or not."""
    return FEATURES


def exists(name: str) -> bool:
    """Whether there is such a feature, active or not."""
    return name in FEATURES


def modules(part: str, names: Sequence[str] | None = None, package: str = "app") -> list[ModuleType]:
    """The modules of this name of the active features, or of those named, that have one."""
    return [module for name in (active() if names is None else names) if (module := _module(package, name, part))]


def module_of(name: str, part: str) -> ModuleType:
    """The module of this name of a feature, active or not, that has it."""
    (module,) = modules(part, [name])
    return module


@cache
def _module(package: str, name: str, part: str) -> ModuleType | None:
    parent = f"{package}.features.{name}"
    if find_spec(parent) is None or find_spec(f"{parent}.{part}") is None:
        return None
    return import_module(f"{parent}.{part}")


def load_tables() -> None:
    """Make the tables of all features known to `Base.metadata`, as those of the core are."""
    modules("tables", FEATURES)
