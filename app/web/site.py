"""What a feature adds to the web server, in its module `site` (`app.feature`)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from fastapi import APIRouter, FastAPI

from app import feature
from app.web.shell import Place


@dataclass(frozen=True, eq=False)
class Site:
    """Parts of the web server. A feature's routers come before those of the core, so none of its paths is hidden."""

    pages: tuple[APIRouter, ...] = ()
    api: tuple[APIRouter, ...] = ()
    """Below /api/v1."""
    api_pages: tuple[APIRouter, ...] = ()
    """Routes of the API, with their whole paths, that answer with a page."""
    public_api: tuple[APIRouter, ...] = ()
    """Below /api/v1, and open to anonymous clients."""
    other_api: tuple[APIRouter, ...] = ()
    """Routers with their whole paths."""
    words: tuple[ModuleType, ...] = ()
    """Modules whose `FILTERS` templates use."""
    places: tuple[Place, ...] = ()
    """Entries of the navigation."""
    install: Callable[[FastAPI], None] = lambda app: None
    """Called with the application that has all routes."""


@cache
def _of(names: tuple[str, ...]) -> tuple[Site, ...]:
    return tuple(module.SITE for module in feature.modules("site", names))


def sites() -> tuple[Site, ...]:
    """Of the active features."""
    return _of(feature.active())
