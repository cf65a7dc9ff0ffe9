"""What is wrong with a field, in a sentence, from pydantic's errors."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.domain.errors import FieldError
from app.web.http.errors import field_errors
from app.web.i18n import gettext as _
from app.web.i18n import marked
from app.web.numbers import AmbiguousNumber, NotANumber, plain_number
from app.web.refusals import told

SENTENCES = {
    "missing": marked("Fill this in"),
    "string_too_short": marked("Fill this in"),
    "string_too_long": marked("At most %(max_length)s characters"),
    "float_parsing": marked("Write a number, such as 0.01 or 2e-5"),
    "float_type": marked("Write a number, such as 0.01 or 2e-5"),
    "finite_number": marked("Write a number, such as 0.01 or 2e-5"),
    "int_parsing": marked("Write a whole number"),
    "int_from_float": marked("Write a whole number"),
    "int_type": marked("Write a whole number"),
    "greater_than": marked("Must be above %(gt)s"),
    "greater_than_equal": marked("Must be %(ge)s or more"),
    "less_than": marked("Must be below %(lt)s"),
    "less_than_equal": marked("Must be %(le)s or less"),
    "multiple_of": marked("Must be a multiple of %(multiple_of)s"),
}
BY_PATH = {
    ("base_model", "string_too_short"): marked("Choose a base model"),
    ("dataset", "string_too_short"): marked("Choose a dataset"),
    ("name", "string_pattern_mismatch"): marked("Write it with letters, digits and the characters . _ - / alone"),
    ("arms", "too_short"): marked("A study needs an arm: add one"),
    ("arms", "too_long"): marked("At most %(max_length)s arms"),
    ("seeds", "too_short"): marked("A study needs a seed"),
    ("seeds", "too_long"): marked("At most %(max_length)s seeds"),
    ("seeds", "list_type"): marked("Write how many seeds, or the seeds themselves: 0, 1, 2"),
}


def sentences(errors: Sequence[Any]) -> tuple[FieldError, ...]:
    """A sentence for each error: ours where there is one, pydantic's where there is none. Each field once."""
    found: dict[tuple[str, str], FieldError] = {}
    for error, field in zip(errors, field_errors(errors), strict=True):
        message = BY_PATH.get((field.path, error["type"])) or SENTENCES.get(error["type"])
        values = {name: f"{v:g}" if isinstance(v, float) else v for name, v in error.get("ctx", {}).items()}
        theirs = told(field)
        words = _(message, **values) if message else theirs.message[:1].upper() + theirs.message[1:]
        if error["type"] in ("float_parsing", "int_parsing") and (ambiguous := _ambiguous(str(error["input"]))):
            message = words = ambiguous
        path = _shown(field.path)
        remedy = "" if message else theirs.remedy  # our sentence says it already
        found.setdefault((path, words), replace(field, path=path, message=words, remedy=remedy))
    return tuple(found.values())


def _ambiguous(text: str) -> str:
    try:
        plain_number(text)
    except AmbiguousNumber as error:
        return str(error)
    except NotANumber:
        pass
    return ""


def _shown(path: str) -> str:
    """A list's item is shown in the list's own field."""
    head, _dot, last = path.rpartition(".")
    return head if last.isdecimal() else path
