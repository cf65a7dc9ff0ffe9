"""What a feature adds to the web server, in its module `site` (`app.feature`)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Generic, ParamSpec

from fastapi import APIRouter, FastAPI, Response
from sqlalchemy.orm import Session

from app import feature
from app.domain.comparison.study import StudyComparison
from app.domain.errors import FieldError
from app.settings import Settings
from app.store.tables import RunRow, StudyRow, UserRow
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
AccountSection = Section[[Session, UserRow]]
UsersSection = Section[[Session]]
LoginSection = Section[[Settings, str]]


ErrorForm = Callable[[int, str, str, Sequence[FieldError]], Response]
"""The answer of a status, the error's kind, its sentence, and the fields that are wrong."""


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
    run_sections: tuple[RunSection, ...] = ()
    """Sections on the page of a run that has ended; called with the run."""
    study_sections: tuple[StudySection, ...] = ()
    """Sections on a study's page and report; called with its id and comparison."""
    account_sections: tuple[AccountSection, ...] = ()
    """Sections on a user's own account."""
    account_done: Mapping[str, str] = field(default_factory=dict)
    """By its name in the address of the account's page, a sentence about what was just done."""
    users_sections: tuple[UsersSection, ...] = ()
    """Sections on the list of users, for admins; those at the place `user` are included for each `user`."""
    login_sections: tuple[LoginSection, ...] = ()
    """Sections on the form of a login; called with the path that the login leads to."""
    second_step: Callable[[str, str], tuple[str, object]] | None = None
    """Template and context of the page of a login that waits for its second step, from the path that it leads to and
    its secret."""
    study_fields: Callable[[Session, StudyRow], Mapping[str, object]] = lambda session, study: {}
    """Further fields of GET /api/v1/studies/{id}, by name; `StudyOut` has their types."""
    comparison_fields: Callable[[Session, int], Mapping[str, object]] = lambda session, study_id: {}
    """Further fields of GET /api/v1/studies/{id}/comparison, by name; `StudyComparisonOut` has their types."""
    actions: Mapping[str, str] = field(default_factory=dict)
    """By the name of a place on a core page, the template of a link that it includes with its own context."""
    errors: Mapping[str, ErrorForm] = field(default_factory=dict)
    """How errors are answered at and below a path."""
    install: Callable[[FastAPI], None] = lambda app: None
    """Called with the application that has all routes."""


@cache
def _of(names: tuple[str, ...]) -> tuple[Site, ...]:
    return tuple(module.SITE for module in feature.modules("site", names))


def sites() -> tuple[Site, ...]:
    """What the active features add."""
    return _of(feature.active())


def error_form(path: str) -> ErrorForm | None:
    """How errors are answered at a path, if not as everywhere."""
    forms = (entry for site in sites() for entry in site.errors.items())
    return next((form for prefix, form in forms if path == prefix or path.startswith(f"{prefix}/")), None)


def run_parts(session: Session, run: RunRow) -> list[Part]:
    """What the active features add to a run's page."""
    return parts([section for site in sites() for section in site.run_sections], session, run)


def study_parts(session: Session, study_id: int, comparison: StudyComparison) -> list[Part]:
    """What the active features add to a study's page."""
    return parts([section for site in sites() for section in site.study_sections], session, study_id, comparison)


def study_fields(session: Session, study: StudyRow) -> dict[str, object]:
    """What the active features say of a study over REST."""
    return {name: value for site in sites() for name, value in site.study_fields(session, study).items()}


def account_parts(session: Session, user: UserRow) -> list[Part]:
    """What the active features add to a user's account."""
    return parts([section for site in sites() for section in site.account_sections], session, user)


def users_parts(session: Session) -> list[Part]:
    """What the active features add to the list of users."""
    return parts([section for site in sites() for section in site.users_sections], session)


def login_parts(settings: Settings, onward: str) -> list[Part]:
    """What the active features add to the form of a login."""
    return parts([section for site in sites() for section in site.login_sections], settings, onward)


def comparison_fields(session: Session, study_id: int) -> dict[str, object]:
    """What the active features say of a study's comparison over REST."""
    return {name: value for site in sites() for name, value in site.comparison_fields(session, study_id).items()}


def actions(place: str) -> list[str]:
    """Templates of the links that the active features add at a place."""
    return [site.actions[place] for site in sites() if place in site.actions]
