"""Translation of the pages: gettext with Babel's catalogues in `app/locale`.

A string is its own English text, so a missing catalogue means English. `make translation LANGUAGE=bg` brings
the catalogue of a language up to date with the sources. It is compiled where it is read, so none can be out of date.
"""

from contextvars import ContextVar
from functools import cache
from io import BytesIO
from typing import Any

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
def translations(code: str) -> NullTranslations:
    """The catalogue of a language; the identity where there is none."""
    try:
        source = (LOCALES / code / "LC_MESSAGES" / "messages.po").read_bytes()
    except FileNotFoundError:
        return NullTranslations()
    compiled = BytesIO()
    write_mo(compiled, read_po(BytesIO(source)))
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


def _localized(values: dict[str, Any]) -> dict[str, Any]:
    return {name: localized(value) for name, value in values.items()}


def looked_up(message: str) -> str:
    """A message in the request's language, nothing filled in: Jinja does that itself."""
    return translations(language()).ugettext(message) if message else ""  # the empty one is the catalogue's header


def plural_looked_up(singular: str, plural: str, n: int) -> str:
    """The form that fits the number, nothing filled in."""
    return translations(language()).ungettext(singular, plural, n)


def marked(message: str) -> str:
    """Mark a constant for the catalogue; it is translated where it is used."""
    return message


def marked_plural(singular: str, plural: str) -> tuple[str, str]:
    """Mark the two forms of a constant; `ngettext` chooses where it is used."""
    return singular, plural
