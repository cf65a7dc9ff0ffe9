"""Sentences for people, written in English and shown in the reader's language.

A `Message` is its English text, so logs, the API and the terminal use it like any other string. It also keeps the
template and the values it was made from, from which `app.words.i18n` makes the sentence in the language of a request.
"""

from collections.abc import Callable, Iterable
from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Message(str):
    """English text made from `template` and `values`: `Message("%(model)s has no block %(block)s", model=…, block=…)`.

    A template without values is used as it stands, so only one with values doubles its percent signs.
    """

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, /, **values: Any) -> Self:
        message = super().__new__(cls, template % values if values else template)
        message.template, message.values = template, values
        return message

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        """For pickle and copy."""
        return (self.template,), self.values

    def translated(self, gettext: Callable[[str], str]) -> str:
        """The sentence in another language; `gettext` looks up templates. Messages among the values are translated."""
        values = {n: v.translated(gettext) if isinstance(v, Message) else v for n, v in self.values.items()}
        template = gettext(self.template)
        return template % values if values else template

    @classmethod
    def joined(cls, messages: Iterable[str], separator: str = " ") -> Self:
        """Several messages in a row."""
        values = {f"part{place}": message for place, message in enumerate(messages)}
        return cls(separator.join(f"%({name})s" for name in values), **values)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A string in JSON."""
        from_text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_text]),
            serialization=core_schema.to_string_ser_schema(),
        )


_ = Message
"""The name by which Babel finds templates: `_("%(model)s has no block %(block)s", …)`."""


NOTHING = Message.joined(())


def choose_from(names: Iterable[object]) -> Message:
    """The remedy for a value that is none of the valid ones."""
    return _("Choose from: %(names)s", names=", ".join(map(str, names)))


def at_most(number: object) -> Message:
    """The remedy for a value that is too large."""
    return _("Use at most %(number)s", number=number)
