"""Jinja: one environment, and how a page is made of a template, its context and the shell around it.

A context is one frozen dataclass (`app/web/pages/NOUN/context.py`), known to its template as `page`. Templates call the
macros in `templates/components/` without an import. An endpoint asks for `Render`:

    def index(session: Reading, render: Render) -> HTMLResponse:
        return render.page("studies/index.html", StudiesPage(...))

What only works with them goes with all that is in it: forms, buttons, menus, navigation, and elements marked
`data-screen`. A link to the server becomes its words, a disclosure is open, and attributes of htmx are taken out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from html import escape
from html.parser import HTMLParser
from importlib import import_module
from pkgutil import walk_packages
from secrets import token_urlsafe
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context, Macro
from markupsafe import Markup
from sqlalchemy.orm import Session

from app import words
from app.domain.methods import METHODS
from app.domain.tasks import TASKS
from app.services.ownership import ownership
from app.services.ownership.ownership import Kind, Ownership
from app.services.workers import workers
from app.settings import ROOT
from app.store.users import queries as users
from app.web.http import csrf
from app.web.http.dependencies import Config, Reading
from app.web.http.files.static import SHEETS, static
from app.web.shell import NEW_STUDY, PLACES, Shell
from app.web.site import Site, actions, sites
from app.words.format import FILTERS
from app.words.i18n import LANGUAGES, gettext, language, localized, looked_up, looked_up_in, plural_looked_up, stored

GOES = frozenset({"form", "button", "nav", "script", "link", "iframe", "dialog", "input", "select"})
"""Elements that go with what is in them."""
VOID = frozenset({"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"})
"""Elements that have no end."""
WIRED = ("hx-", "sse-", "data-rows", "data-copy", "formaction")
"""How attributes begin that speak to the server or to a script."""

Attributes = list[tuple[str, str | None]]


def on_paper(html: str) -> Markup:
    """The same without what needs a server. Only what a template has made belongs here: it is not cleaned."""
    reader = _Paper()
    reader.feed(str(html))
    reader.close()
    return Markup("".join(reader.kept))  # noqa: S704 parts of what a template has escaped


class _Paper(HTMLParser):
    """Passes on what stays, as it was written."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.kept: list[str] = []
        self._within: str | None = None
        """The element that goes, while reading what is in it."""
        self._depth = 0
        self._links: list[bool] = []
        """For each link that is open: whether it stays one."""

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        if self._within is not None:
            self._depth += tag == self._within
        elif _goes(tag, attrs):
            if tag not in VOID:
                self._within, self._depth = tag, 1
        elif tag == "a":
            self._links.append(_inside(attrs))
            if self._links[-1]:
                self._keep(self._written(tag, attrs))
        else:
            self._keep(self._written(tag, attrs))

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        if not _goes(tag, attrs):
            self._keep(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        if self._within is not None:
            self._depth -= tag == self._within
            if not self._depth:
                self._within = None
        elif tag != "a" or (self._links and self._links.pop()):
            self._keep(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self._keep(data)

    def handle_entityref(self, name: str) -> None:
        self._keep(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._keep(f"&#{name};")

    def _keep(self, text: str) -> None:
        if self._within is None:
            self.kept.append(text)

    def _written(self, tag: str, attrs: Attributes) -> str:
        """As it stands, unless an attribute must go or come: then names are in small letters, as HTML takes them."""
        stay = [(name, value) for name, value in attrs if not name.startswith(WIRED)]
        if tag == "details" and "open" not in dict(attrs):
            stay.append(("open", None))
        if stay == attrs:
            return self.get_starttag_text() or ""
        words = "".join(f" {name}" if value is None else f' {name}="{escape(value)}"' for name, value in stay)
        return f"<{tag}{words}>"


def _goes(tag: str, attrs: Attributes) -> bool:
    attributes = dict(attrs)
    classes = (attributes.get("class") or "").split()
    return tag in GOES or "data-screen" in attributes or (tag == "a" and "button" in classes)


def _inside(attrs: Attributes) -> bool:
    """The link leads within the page, or is a link's target only."""
    return (dict(attrs).get("href") or "#").startswith("#")


TEMPLATES = ROOT / "templates"
FOLDERS = (TEMPLATES, TEMPLATES / "features")
"""Where templates are looked for: `studies/index.html` in the first, `lab/home.html` in the second."""
WORDS = [import_module(module.name) for module in walk_packages(words.__path__, "app.words.") if not module.ispkg]
"""The core's modules of sentences; templates use the functions in their `FILTERS`."""


@cache
def _environment(added: tuple[Site, ...]) -> Environment:
    env = Environment(
        loader=FileSystemLoader(FOLDERS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        finalize=localized,
    )
    modules = (*WORDS, *(module for site in added for module in site.words))
    functions = (*FILTERS, *(function for module in modules for function in getattr(module, "FILTERS", ())))
    places = sorted([*PLACES, *(place for site in added for place in site.places)], key=lambda place: place.order)
    env.filters |= {function.__name__: function for function in functions}
    env.filters |= {"on_paper": on_paper, "localized": localized, "stored": stored}
    # `translate` is for constants that were marked where they are defined; a `Message` is translated by `finalize`
    env.globals |= {
        "static": static,
        "language": language,
        "translate": gettext,
        "NAV": places,
        "GO": {place.key: place for place in sorted([*places, NEW_STUDY], key=lambda place: place.order)},
        "SHEETS": SHEETS,
        "METHODS": METHODS,
        "TASKS": TASKS,
        "LANGUAGES": LANGUAGES,
        "actions": actions,
        "new_key": partial(token_urlsafe, 16),
    }
    env.install_gettext_callables(  # type: ignore[attr-defined]
        looked_up, plural_looked_up, newstyle=True, pgettext=looked_up_in
    )
    for name in ("gettext", "ngettext"):
        env.globals[name] = _with_messages(env.globals[name])
    for file in sorted(TEMPLATES.glob("components/**/*.html")):  # macros that templates have without an import
        macros = vars(env.get_template(file.relative_to(TEMPLATES).as_posix()).module)
        env.globals |= {name: macro for name, macro in macros.items() if isinstance(macro, Macro)}
    return env


def _with_messages(function: Any) -> Any:
    """Jinja's function, with the messages among its values in the request's language as well."""

    @pass_context
    def translated(context: Context, *texts: Any, **values: Any) -> Any:
        return function(context, *texts, **{name: localized(value) for name, value in values.items()})

    return translated


def environment() -> Environment:
    """Jinja's environment, with what the active features add."""
    return _environment(sites())


def render_text(template: str, **values: Any) -> str:
    """A template as text; `Render` is what an endpoint wants. Without a token its forms cannot be sent."""
    return environment().get_template(template).render({"csrf_token": "", "owners": {}, "ownership": None} | values)


class Renderer:
    """Makes the answers of one request; `shell` is called once the page's context is complete."""

    def __init__(self, request: Request, shell: Callable[[], Shell], session: Session | None = None) -> None:
        self.request = request
        self.shell = shell
        self.session = session

    def page(
        self, template: str, page: object, *, status: int = 200, of: tuple[Kind, object] | None = None
    ) -> HTMLResponse:
        """A whole page, or a part of one for htmx; the context is the page's own. `of`: the object whose owner and
        visibility it shows where there are users."""
        identity = getattr(self.request.state, "identity", None)
        owners: Mapping[int, str] = {}
        owned: Ownership | None = None
        if self.session is not None and identity is not None and identity.user_id is not None:
            owners = users.names(self.session)
            owned = ownership.of(self.session, of[0], str(of[1])) if of else None
        shell = self.shell().of_user(identity)
        values = {"page": page, "shell": shell, "path": self.request.url.path, "csrf_token": csrf.token(self.request)}
        html = render_text(template, **values, owners=owners, ownership=owned)
        # kept pages are asked for again: what htmx swaps in must never be a browser's old copy
        return HTMLResponse(html, status, {"Cache-Control": "no-cache", "Vary": "HX-Request"})


def renderer(request: Request, session: Reading, settings: Config) -> Renderer:
    """The dependency behind `Render`. It queries only within the endpoint, and gives the session's connection back
    before the template is rendered: a request that waits for a thread holds none."""

    def shell() -> Shell:
        now = Shell.of(workers.live(session, settings))
        session.close()
        return now

    return Renderer(request, shell, session)


Render = Annotated[Renderer, Depends(renderer)]


def signed_out(request: Request) -> Renderer:
    """The dependency behind `RenderSignedOut`: pages that anonymous visitors see say nothing of the workers."""
    return Renderer(request, Shell.unknown)


RenderSignedOut = Annotated[Renderer, Depends(signed_out)]


@dataclass(frozen=True)
class ErrorPage:
    """What went wrong, in words; the words say why and what to do."""

    status: int
    title: str
    message: str


def error_page(request: Request, status: int, title: str, message: str) -> HTMLResponse:
    """A page that says what went wrong. It asks no database: that may be what is away."""
    return Renderer(request, Shell.unknown).page("layouts/error.html", ErrorPage(status, title, message), status=status)
