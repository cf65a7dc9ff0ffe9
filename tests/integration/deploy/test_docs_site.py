"""The documentation site builds without warnings, and its links lead somewhere."""

from html.parser import HTMLParser
from pathlib import Path
from posixpath import normpath
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.servers import docs_site
from tests.support.servers.docs_site import DOCS, OUTSIDE, place


class Page(HTMLParser):
    """The anchors of a page, its links, and what a browser loads with it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values["id"]} if "id" in values else set()
        found = [values[name] for name in ("href", "src") if name in values]
        (self.links if tag == "a" else self.loaded).extend(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("docs") / "site"
    docs_site.build(into)
    return into.resolve()


@pytest.mark.slow
def test_every_page_is_there_and_every_link_leads_to_a_file_and_an_anchor(site: Path) -> None:
    pages = {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}
    built = {str(file.relative_to(site).with_suffix(".md")) for file in pages}
    written = [*OUTSIDE, *(f"docs/{path.relative_to(DOCS)}" for path in DOCS.rglob("*.md"))]
    assert {place(page).replace("README.md", "index.md") for page in written} <= built
    broken = []
    for file, page in pages.items():
        for link in page.links + page.loaded:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (file.parent / unquote(url.path)).resolve() if url.path else file
            anchors = pages[target].anchors if target in pages else set()
            if (
                not target.is_relative_to(site)
                or not target.exists()
                or (url.fragment and unquote(url.fragment) not in anchors)
            ):
                broken.append(f"{file.name}: {link}")
    assert broken == []


def test_a_reader_loads_nothing_from_another_host(site: Path) -> None:
    loaded = {link for file in site.rglob("*.html") for link in Page(file).loaded}
    assert len(loaded) > 10
    assert {link for link in loaded if urlsplit(link).netloc} == set()


def test_the_navigation_has_every_page_but_single_decisions(site: Path) -> None:
    home = Page(site / "index.html")
    linked = {normpath(urlsplit(link).path) for link in home.links}
    pages = {str(file.relative_to(site)) for file in site.rglob("*.html")}
    rest = {name for name in pages - linked if not name.startswith(("decisions/", "reports/", "files/"))}
    assert rest == {"404.html"}
