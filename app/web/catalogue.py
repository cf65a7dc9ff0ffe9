"""The catalogues in step with the sources: `python -m app.web.catalogue` writes the template and updates each language.

Messages come from Python and from templates by gettext's names, and from the domain and the services by the names of
constants and by how they refuse: both speak English and know nothing of translation.
"""

import ast
import io
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po, write_po

from app.settings import ROOT
from app.web.i18n import LOCALES
from app.web.refusals import templates

TEMPLATE = LOCALES / "messages.pot"
DOMAIN_CONSTANTS: Mapping[str, Collection[str]] = {
    "FAILURES": (),
    "METRICS": ("title", "definition"),
    "TASKS": ("title",),
    "UNCHANGED": (),
    "SAVINGS": (),
    "facts": ("name", "summary", "formula"),
}
"""Constants of the domain that hold words for people: as a dictionary's values, or in these arguments."""
METHODS = [
    ("app/domain/**.py", "app.web.catalogue:domain_sentences"),
    ("app/services/**.py", "app.web.catalogue:domain_sentences"),
    ("app/**.py", "python"),
    ("templates/**.html", "jinja2"),
]
KEYWORDS: Mapping[str, Any] = DEFAULT_KEYWORDS | {"marked": None, "marked_plural": (1, 2)}
DROPPED = ('"POT-Creation', '"PO-Revision', '"Generated', '"Report-Msgid', '"Last-Translator', '"Language-Team')
HEADER = "# Words of Vezna's pages. Kept in step with the sources by: python -m app.web.catalogue"


def domain_sentences(
    fileobj: IO[bytes], keywords: Collection[str], comment_tags: Collection[str], options: Mapping[str, Any]
) -> Iterator[tuple[int, str, str, list[str]]]:
    """An extractor for Babel: the words in the constants of the domain that hold some, and its refusals."""
    tree = ast.parse(fileobj.read())
    yield from ((line, "gettext", message, []) for line, message in templates(tree))
    for node in ast.walk(tree):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            continue
        if node.target.id in DOMAIN_CONSTANTS:
            for found in _words(node.value, DOMAIN_CONSTANTS[node.target.id]):
                if isinstance(found, ast.Constant) and isinstance(found.value, str):
                    yield found.lineno, "gettext", found.value, []


def _words(value: ast.expr, arguments: Collection[str]) -> Iterator[ast.expr]:
    if isinstance(value, ast.Dict):
        yield from value.values
    for call in ast.walk(value):
        if isinstance(call, ast.Call):
            yield from (k.value for k in call.keywords if k.arg in arguments)


def extracted() -> Catalog:
    """Every message of the sources."""
    found = Catalog(project="Vezna", header_comment=HEADER, charset="utf-8")
    for file, _line, message, _comments, context in extract_from_dir(
        ROOT, METHODS, {"**.html": {"trimmed": "true", "silent": "false"}}, keywords=KEYWORDS, directory_filter=_own
    ):
        if message:
            found.add(message, locations=[(file, 0)], context=context)
    return found


def text(catalogue: Catalog) -> str:
    """A catalogue as a file: by message and without places or dates, so that it changes only when the words do."""
    buffer = io.BytesIO()
    write_po(buffer, catalogue, width=120, no_location=True, omit_header=False, sort_output=True)
    lines = buffer.getvalue().decode().splitlines()
    return "\n".join(line for line in lines if not line.startswith(DROPPED)) + "\n"


def updated(file: Path, template: Catalog) -> str:
    """A language's catalogue with the template's messages: what was translated stays, what is gone goes."""
    with file.open("rb") as stream:
        catalogue = read_po(stream, locale=file.parts[-3])
    catalogue.update(template, no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    return text(catalogue)


def languages() -> list[Path]:
    """The catalogue of each language."""
    return sorted(LOCALES.glob("*/LC_MESSAGES/messages.po"))


def _own(directory: str | Path) -> bool:
    path = Path(directory)
    return not path.name.startswith(".") and (path == ROOT or path.relative_to(ROOT).parts[0] in ("app", "templates"))


def main() -> None:
    """Write the template and every language's catalogue."""
    template = extracted()
    TEMPLATE.write_text(text(template))
    for file in languages():
        file.write_text(updated(file, template))


if __name__ == "__main__":
    main()
