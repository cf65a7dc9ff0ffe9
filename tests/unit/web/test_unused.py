"""Filters, macros, imports of templates and classes of stylesheets that nothing uses."""

import re
from functools import cache
from itertools import chain
from string import digits

import pytest
from jinja2 import nodes

from app.settings import ROOT
from app.web import templating
from app.web.site import sites
from app.web.templating import TEMPLATES, environment
from app.words import format

FILES = sorted(path.relative_to(TEMPLATES).as_posix().removeprefix("features/") for path in TEMPLATES.rglob("*.html"))
"""By the names with which other templates include them."""
NO_SELECTOR = r"/\*.*?\*/|\{[^{}]*\}|url\([^)]*\)"
"""Comments, declarations and addresses of a stylesheet."""


def source(name: str) -> str:
    loader = environment().loader
    assert loader
    return loader.get_source(environment(), name)[0]


@cache
def parsed(name: str) -> nodes.Template:
    return environment().parse(source(name))


def names_read(name: str) -> set[str]:
    """By a template and by those that it includes, which see its imports."""
    included = [node.template for node in parsed(name).find_all(nodes.Include)]
    read = {node.name for node in parsed(name).find_all(nodes.Name) if node.ctx == "load"}
    return read.union(*(names_read(file.value) for file in included if isinstance(file, nodes.Const)))


def test_a_template_uses_every_filter() -> None:
    modules = (*templating.WORDS, *(module for site in sites() for module in site.words))
    own = chain(format.FILTERS, *(getattr(module, "FILTERS", ()) for module in modules))
    used = {node.name for file in FILES for node in parsed(file).find_all(nodes.Filter)}
    used |= {node.value for file in FILES for node in parsed(file).find_all(nodes.Const) if isinstance(node.value, str)}
    assert sorted({function.__name__ for function in own} - used) == []


def test_every_macro_is_called() -> None:
    defined = {(file, macro.name) for file in FILES for macro in parsed(file).find_all(nodes.Macro)}
    called = {(file, name) for file in FILES for name in names_read(file)}
    called |= {(file, name) for file in FILES if file.startswith("components/") for _file, name in called}
    for file in FILES:
        for node in parsed(file).find_all(nodes.FromImport):
            assert isinstance(node.template, nodes.Const)
            called |= {(node.template.value, name if isinstance(name, str) else name[0]) for name in node.names}
    assert sorted(defined - called) == []


@pytest.mark.parametrize("file", FILES)
def test_a_template_uses_what_it_imports(file: str) -> None:
    imports = chain.from_iterable(node.names for node in parsed(file).find_all(nodes.FromImport))
    assert {name if isinstance(name, str) else name[1] for name in imports} - names_read(file) == set()


def test_every_class_of_a_stylesheet_is_written_somewhere() -> None:
    """Numbers at the end are not compared: `u3` is written `u{level}`."""
    sources = [*TEMPLATES.rglob("*.html"), *(ROOT / "static/js").glob("*.js"), *(ROOT / "app").rglob("*.py")]
    quoted = chain.from_iterable(re.findall(r"\"[^\"]*\"|'[^']*'|`[^`]*`", file.read_text()) for file in sources)
    written = {word.rstrip(digits) for text in quoted for word in re.findall(r"[\w-]+", text)}
    sheets = [
        re.sub(NO_SELECTOR, "", file.read_text(), flags=re.DOTALL) for file in (ROOT / "static/css").glob("*.css")
    ]
    styled = {name.rstrip(digits) for sheet in sheets for name in re.findall(r"\.([a-zA-Z][\w-]*)", sheet)}
    assert sorted(styled - written) == []
