"""The catalogue of a language: brought up to date with the sources, and what it lacks.

python -m tests.support.checks.catalogue bg      writes app/locale/bg/LC_MESSAGES/messages.po anew, and names what it
lacks

Entries are sorted and have no line numbers, so that a change of the sources shows as what it is. A message that the
sources no longer have is dropped: a changed sentence takes its translation from `git diff`.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import BytesIO, StringIO
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import typer
from babel.messages.catalog import Catalog, Message
from babel.messages.frontend import CommandLineInterface
from babel.messages.pofile import read_po, write_po

from app.cli.help import help_texts
from app.cli.program import cli
from app.features.recipes import service as recipes
from app.settings import ROOT
from app.words.i18n import LOCALES

EXTRACT = ("-F", "pyproject.toml", "-k", "Message", "-k", "marked", "-k", "marked_plural:1,2", "--no-location")
ROOMS = ("app", "templates", "worker")
WIDTH = 120
PLACEHOLDER = re.compile(r"%\(\w+\)[sdr]|%%")
HEADER = """# {name}.
msgid ""
msgstr ""
"Project-Id-Version: Vezna\\n"
"Language: {code}\\n"
"Plural-Forms: {plural}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""


def path_of(language: str) -> Path:
    """The catalogue of a language."""
    return LOCALES / language / "LC_MESSAGES" / "messages.po"


def extracted() -> Catalog:
    """Every message that `pybabel extract` finds from the root of the repository, and what recipes and the help of
    commands say."""
    with TemporaryDirectory() as folder:
        pot = Path(folder) / "messages.pot"
        with redirect_stderr(StringIO()):  # it warns of f-strings among the values of messages
            CommandLineInterface().run(["pybabel", "-q", "extract", *EXTRACT, "-o", str(pot), *ROOMS])
        found = read_po(BytesIO(pot.read_bytes()))
    for text in chain(_recipe_texts(), help_texts(typer.main.get_command(cli))):
        found.add(text)
    return found


def _recipe_texts() -> Iterator[str]:
    for recipe in recipes.library().values():
        source = recipe.source
        yield from (
            recipe.title,
            recipe.claim,
            recipe.paper,
            source.setting,
            source.checked,
            recipe.confirmed_by,
            recipe.rule,
        )
        yield from (check.name for check in recipe.checks)


def stored(language: str) -> Catalog:
    """The catalogue in the repository; an empty one of a new language."""
    path = path_of(language)
    return read_po(BytesIO(path.read_bytes()), locale=language) if path.exists() else Catalog(locale=language)


def updated(language: str, sources: Catalog) -> Catalog:
    """The messages of the sources with the translations that the catalogue has."""
    before, catalogue = stored(language), Catalog(locale=language)
    for message in sources:
        if message.id:
            known = before.get(message.id, message.context)
            same = known is not None and known.id == message.id
            string = known.string if same and known else ""
            catalogue.add(message.id, string, flags=message.flags, context=message.context)
    return catalogue


def text_of(language: str, catalogue: Catalog) -> str:
    """A catalogue as it is stored, with the header that it has."""
    path = path_of(language)
    if path.exists():
        header = path.read_text(encoding="utf-8").partition("\n\n")[0] + "\n\n"
    else:
        name = catalogue.locale.english_name if catalogue.locale else language
        header = HEADER.format(name=name, code=language, plural=catalogue.plural_forms)
    body = BytesIO()
    write_po(body, catalogue, width=WIDTH, no_location=True, omit_header=True, sort_output=True, ignore_obsolete=True)
    return header + body.getvalue().decode()


def faults(language: str, sources: Catalog) -> list[str]:
    """What is wrong with a catalogue: strings without translation, obsolete or fuzzy ones, placeholders that differ."""
    catalogue = stored(language)
    used = {(message.id, message.context) for message in sources if message.id}
    found = [f"not translated: {_name(message)}" for message in sources if message.id and not _said(catalogue, message)]
    for message in catalogue:
        if not message.id:
            continue
        if (message.id, message.context) not in used:
            found.append(f"no longer in the sources: {_name(message)}")
        if message.fuzzy:
            found.append(f"fuzzy: {_name(message)}")
        if wrong := _differences(message):
            found.append(f"{wrong}: {_name(message)}")
    return sorted(found)


def _said(catalogue: Catalog, message: Message) -> bool:
    known = catalogue.get(message.id, message.context)
    if known is None or known.id != message.id:
        return False
    return all(_forms(known.string))


def _forms(text: object) -> tuple[str, ...]:
    return tuple(map(str, text)) if isinstance(text, tuple | list) else (str(text),)


def _name(message: Message) -> str:
    return _forms(message.id)[0] + (f" ({message.context})" if message.context else "")


def _differences(message: Message) -> str:
    """Placeholders that a translation lacks or has in addition; a plural form may say its number in a word."""
    sources = [sorted(PLACEHOLDER.findall(text)) for text in _forms(message.id)]
    plural = len(sources) > 1
    for place, text in enumerate(_forms(message.string)):
        said, source = sorted(PLACEHOLDER.findall(text)), sources[min(place, len(sources) - 1)]
        silent = {"%(num)s"} if plural else set()
        if text and said != source and not (set(said) <= set(source) and set(source) - set(said) <= silent):
            return f"{' '.join(source) or 'no placeholder'} became {' '.join(said) or 'none'}"
    return ""


def main(language: str) -> int:
    """Bring a catalogue up to date; the number of strings that it lacks decides the exit status."""
    sources = extracted()
    path = path_of(language)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of(language, updated(language, sources)), encoding="utf-8")
    lacking = faults(language, sources)
    for fault in lacking:
        print(fault)
    print(f"{path.relative_to(ROOT)}: {len([m for m in sources if m.id])} messages, {len(lacking)} to mend")
    return bool(lacking)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
