"""Translation of the pages: gettext with Babel's catalogues in `app/locale`.

A string is its own English text, so a missing catalogue means English. `make translation LANGUAGE=bg` brings
the catalogue of a language up to date with the sources. It is compiled where it is read, so none can be out of date.
"""

import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

from app.domain.messages import Message
from app.settings import ROOT

LOCALES = ROOT / "app" / "locale"
DEFAULT = "en"
LANGUAGES = {"en": "English", "bg": "Български"}
"""Those in which Vezna is written, by their own names."""

_language: ContextVar[str] = ContextVar("language", default=DEFAULT)


def language() -> str:
    """The language in which this request is answered."""
    return _language.get()


def speak(code: str) -> None:
    """Answer this request in another language."""
    _language.set(code)


@cache
def _catalogue(code: str) -> Catalog | None:
    try:
        return read_po(BytesIO((LOCALES / code / "LC_MESSAGES" / "messages.po").read_bytes()))
    except FileNotFoundError:
        return None


@cache
def translations(code: str) -> NullTranslations:
    """The catalogue of a language; the identity where there is none."""
    if (catalogue := _catalogue(code)) is None:
        return NullTranslations()
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)


def gettext(message: str, /, **values: Any) -> str:
    """A message in the request's language, with `%(name)s` filled in from the values."""
    text = looked_up(message)
    return text % _localized(values) if values else text


def ngettext(singular: str, plural: str, n: int, /, **values: Any) -> str:
    """The form that fits the number `n`, which the message knows as `%(num)s`."""
    return plural_looked_up(singular, plural, n) % ({"num": n} | _localized(values))


def localized(value: Any) -> Any:
    """A value as a page shows it: a sentence of the domain in the request's language, anything else as it is."""
    return value.translated(looked_up) if isinstance(value, Message) else value


def stored(text: str) -> str:
    """A sentence that was stored in English, in the request's language: its template is found among those of the
    catalogue. Text that none of them made stays as it is."""
    if isinstance(text, Message):
        return text.translated(looked_up)
    return text if not text or language() == DEFAULT else _recognized(language(), text)


def _localized(values: dict[str, Any]) -> dict[str, Any]:
    return {name: localized(value) for name, value in values.items()}


def looked_up(message: str) -> str:
    """A message in the request's language, nothing filled in: Jinja does that itself."""
    return translations(language()).ugettext(message) if message else ""  # the empty one is the catalogue's header


def looked_up_in(context: str, message: str) -> str:
    """A message that means something else elsewhere, such as a verb that is a noun there; nothing filled in."""
    return str(translations(language()).pgettext(context, message))


def plural_looked_up(singular: str, plural: str, n: int) -> str:
    """The form that fits the number, nothing filled in."""
    return translations(language()).ungettext(singular, plural, n)


def marked(message: str) -> str:
    """Mark a constant for the catalogue; it is translated where it is used."""
    return message


def marked_plural(singular: str, plural: str) -> tuple[str, str]:
    """Mark the two forms of a constant; `ngettext` chooses where it is used."""
    return singular, plural


SENTENCE_END = re.compile(r"(?<=[.!?;]) ")
PLACEHOLDER = re.compile(r"%\((\w+)\)[srd]")
LONGEST, MOST_SENTENCES = 2000, 12
"""Characters and sentences of a stored text: a longer one, which quotes a library or the user's data, stays English."""
LEAST_LETTERS = 12
"""Of a template beside its placeholders: a shorter one could have made many a text."""


@dataclass(frozen=True)
class _Template:
    """An English template that recognizes its sentences."""

    names: tuple[str, ...]
    between: tuple[str, ...]
    """What stands before, between and behind the values; one more than names."""
    translated: str

    @property
    def letters(self) -> int:
        """How many it has beside its placeholders."""
        return sum(map(str.isalpha, "".join(self.between)))

    def values(self, sentence: str) -> dict[str, str] | None:
        """The values that made the sentence, each as short as can be; None if others did. Linear in its length."""
        first, *middle, last = self.between
        end = len(sentence) - len(last)
        if not sentence.startswith(first) or not sentence.endswith(last) or end <= len(first):
            return None
        values: dict[str, str] = {}
        place = len(first)
        for name, words in zip(self.names, [*middle, None], strict=True):
            behind = end if words is None else sentence.find(words, place + 1, end)
            value = sentence[place:behind]
            if behind <= place or values.setdefault(name, value) != value:
                return None
            place = behind + len(words or "")
        return values


@lru_cache(4096)
def _recognized(code: str, text: str) -> str:
    """The sentences of a text one after the other, each as many words as one template made."""
    ends = [*(match.start() for match in SENTENCE_END.finditer(text)), len(text)]
    if len(text) > LONGEST or len(ends) > MOST_SENTENCES:
        return text
    for end in reversed(ends):
        if (said := _translated(code, text[:end])) is not None:
            rest = text[end:].lstrip()
            return f"{said} {_recognized(code, rest)}" if rest else said
    return text


def _translated(code: str, sentence: str) -> str | None:
    for text, end in ((sentence, ""), (sentence.removesuffix("."), ".")):
        known = translations(code).ugettext(text) if len(text) >= LEAST_LETTERS else text
        if known != text:
            return str(known) + end
    for template in _templates(code):
        if found := template.values(sentence):
            values = {name: _recognized(code, value) if " " in value else value for name, value in found.items()}
            return template.translated % values
    return None


@cache
def _templates(code: str) -> tuple[_Template, ...]:
    """Those with most letters first."""
    found = [template for message in _catalogue(code) or () for template in _of(message.id, message.string)]
    return tuple(sorted(found, key=lambda template: -template.letters))


def _of(source: object, translated: object) -> Iterator[_Template]:
    if isinstance(source, tuple | list) and isinstance(translated, tuple | list):
        for form, words in zip(source, translated, strict=False):
            yield from _of(form, words)
    elif isinstance(source, str) and isinstance(translated, str) and translated and "%(" in source:
        names = tuple(PLACEHOLDER.findall(source))
        between = tuple(words.replace("%%", "%") for words in PLACEHOLDER.split(source)[::2])
        template = _Template(names, between, re.sub(r"(%\(\w+\))[rd]", r"\1s", translated))
        if names and all(between[1:-1]) and template.letters >= LEAST_LETTERS:
            yield template
