"""What a feature adds to the web server, in its module `site` (`app.feature`)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Generic, ParamSpec

from fastapi import APIRouter, FastAPI
from sqlalchemy.orm import Session

from app import feature
from app.domain.comparison.study import StudyComparison
from app.store.tables import RunRow
from app.web.shell import Place

P = ParamSpec("P")


@dataclass(frozen=True, eq=False)
class Section(Generic[P]):
    """A part of a core page."""

    place: str
    """Where the page's template includes it."""
    template: str
    context: Callable[P, object | None]
    """What the template knows as `page`; the page is without the section if it is None."""
    order: int = 0
    """Among the sections of one place."""


RunSection = Section[[Session, RunRow]]
StudySection = Section[[Session, int, StudyComparison]]


@dataclass(frozen=True)
class Part:
    """A section with its context, as a core page includes it:

    {% for part in page.parts if part.place == "PLACE" %}
      {% with page = part.page %}{% include part.template %}{% endwith %}
    {% endfor %}
    """

    place: str
    template: str
    page: object


def parts(sections: Iterable[Section[P]], *args: P.args, **kwargs: P.kwargs) -> list[Part]:
    """The sections that have something to show, in their order."""
    ordered = sorted(sections, key=lambda section: section.order)
    contexts = ((section, section.context(*args, **kwargs)) for section in ordered)
    return [Part(section.place, section.template, page) for section, page in contexts if page is not None]


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
    run_sections: tuple[RunSection, ...] = ()
    """Of the page of a run that has ended; called with the run."""
    study_sections: tuple[StudySection, ...] = ()
    """Of a study's page and report; called with its id and comparison."""
    comparison_fields: Callable[[Session, int], Mapping[str, object]] = lambda session, study_id: {}
    """Of what GET /api/v1/studies/{id}/comparison says, by name; `StudyComparisonOut` has their types."""
    actions: Mapping[str, str] = field(default_factory=dict)
    """By the name of a place on a core page, the template of a link that it includes with its own context."""
    install: Callable[[FastAPI], None] = lambda app: None
    """Called with the application that has all routes."""


@cache
def _of(names: tuple[str, ...]) -> tuple[Site, ...]:
    return tuple(module.SITE for module in feature.modules("site", names))


def sites() -> tuple[Site, ...]:
    """Of the active features."""
    return _of(feature.active())


def run_parts(session: Session, run: RunRow) -> list[Part]:
    """What the active features add to a run's page."""
    return parts([section for site in sites() for section in site.run_sections], session, run)


def study_parts(session: Session, study_id: int, comparison: StudyComparison) -> list[Part]:
    """What the active features add to a study's page."""
    return parts([section for site in sites() for section in site.study_sections], session, study_id, comparison)


def comparison_fields(session: Session, study_id: int) -> dict[str, object]:
    """What the active features say of a study's comparison over REST."""
    return {name: value for site in sites() for name, value in site.comparison_fields(session, study_id).items()}


def actions(place: str) -> list[str]:
    """Templates of the links that the active features add at a place."""
    return [site.actions[place] for site in sites() if place in site.actions]
