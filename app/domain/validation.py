"""Errors of pydantic as errors about fields, in our own words, and the types of the texts that people enter.

A validator raises `invalid_field`; what pydantic checks itself is said by `SENTENCES`. Every text that is
stored has one of the types below (one line, a name, free text) or a pattern of its own, also the key of an entry:
`dict[Key, Line]`.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from app.domain.errors import FieldError
from app.domain.messages import NOTHING, Message, _

OF_KEY = "[key]"
"""Pydantic puts it behind the key of an object that is wrong, as if it were a field there."""

SENTENCES: Mapping[str, Message] = {
    "missing": _("This field is required"),
    "extra_forbidden": _("There is no such field"),
    "greater_than": _("Must be above %(gt)s"),
    "greater_than_equal": _("Must be %(ge)s or more"),
    "less_than": _("Must be below %(lt)s"),
    "less_than_equal": _("Must be %(le)s or less"),
    "multiple_of": _("Must be a multiple of %(multiple_of)s"),
    "string_too_short": _("Must not be empty"),
    "string_too_long": _("Must have at most %(max_length)s characters"),
    "string_pattern_mismatch": _("Must match the pattern %(pattern)s"),
    "too_short": _("Must have %(min_length)s or more entries"),
    "too_long": _("Must have at most %(max_length)s entries"),
    "literal_error": _("Must be one of %(expected)s"),
    "enum": _("Must be one of %(expected)s"),
    "finite_number": _("Must be a number, such as 0.01 or 2e-5"),
    "float_type": _("Must be a number, such as 0.01 or 2e-5"),
    "float_parsing": _("Must be a number, such as 0.01 or 2e-5"),
    "int_type": _("Must be a whole number"),
    "int_parsing": _("Must be a whole number"),
    "int_from_float": _("Must be a whole number"),
    "bool_type": _("Must be true or false"),
    "bool_parsing": _("Must be true or false"),
    "string_type": _("Must be a string"),
    "list_type": _("Must be a list"),
    "dict_type": _("Must be an object"),
    "model_type": _("Must be an object"),
    "model_attributes_type": _("Must be an object"),
    "json_invalid": _("This is not JSON (%(error)s)"),
}
"""By pydantic's type of error, whose context has the values. What is missing here is said in pydantic's words."""
UNKNOWN = "extra_forbidden"


def invalid_field(path: str, message: Message, remedy: Message) -> PydanticCustomError:
    """An error for a validator to raise; `path` is below what is validated."""
    # pydantic cannot handle half characters
    return PydanticCustomError(
        "invalid_field", "{message}", {"path": legible(path), "message": message, "remedy": remedy}
    )


def field_error(error: Mapping[str, Any], remedies: Mapping[str, Message]) -> FieldError:
    """An entry of `ValidationError.errors()`. `remedies`: what to do, by pydantic's type of error."""
    kind, context = str(error["type"]), error.get("ctx", {})
    if kind == "invalid_field":
        return FieldError(path_of([*error["loc"], context["path"]]), context["message"], context["remedy"])
    values = {name: _short(value) for name, value in context.items()}
    template = SENTENCES[kind].template if kind in SENTENCES else ""
    raised = getattr(context.get("error"), "args", ())
    if raised and isinstance(raised[0], Message):
        message = raised[0]
    else:
        message = Message(template, **values) if template else Message(str(error["msg"]).removeprefix("Value error, "))
    return FieldError(path_of(error["loc"]), message, remedies.get(kind, NOTHING))


def _short(value: object) -> object:
    """A bound as a person would write it: 10, not 10.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def path_of(parts: Iterable[object]) -> str:
    """`("arms", 1, "method", "r")` as `arms.1.method.r`."""
    return legible(".".join(str(part) for part in parts if part not in ("", OF_KEY)))


def legible(text: str) -> str:
    """A text as it may be shown: what cannot be printed, and half characters, which no encoding has, are replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _printable(text: str) -> str:
    if not text.isprintable():
        bad = next(c for c in text if not c.isprintable())
        raise invalid_field(
            "", _("The character U+%(code)04X cannot be printed", code=ord(bad)), _("Remove it, or use a plain space")
        )
    return text


def _storable(text: str) -> str:
    bad = next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if bad is not None:
        raise invalid_field("", _("The character U+%(code)04X cannot be stored", code=ord(bad)), _("Remove it"))
    return text


Line = Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_printable)]
"""One line: no breaks, no NUL (PostgreSQL keeps none), no marks that turn the direction of a text; it may be empty."""
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_printable)]
"""A line that says something."""
Verbatim = Annotated[str, AfterValidator(_storable)]
"""A text as it came, with its spaces and breaks, but for what cannot be kept: PostgreSQL has no NUL, UTF-8 no half
characters."""
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_storable)]
"""A text of several lines that says something."""
Key = Annotated[Name, Field(max_length=200)]
"""By what an entry of an object is known."""
