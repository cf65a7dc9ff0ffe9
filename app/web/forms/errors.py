"""What is wrong with the fields of a form, from pydantic's errors."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app.domain.errors import FieldError, Invalid
from app.domain.messages import Message, _
from app.web.http.errors import field_errors
from app.web.numbers import AmbiguousNumber, NotANumber, plain_number

BY_PATH = {
    ("base_model", "string_too_short"): _("Choose a base model"),
    ("dataset", "string_too_short"): _("Choose a dataset"),
    ("name", "string_pattern_mismatch"): _("Use only letters, digits and the characters . _ - /"),
    ("arms", "too_short"): _("Add an arm: a study needs at least one"),
    ("arms", "too_long"): _("Use at most %(max_length)s arms"),
    ("seeds", "too_short"): _("Add a seed: a study needs at least one"),
    ("seeds", "too_long"): _("Use at most %(max_length)s seeds"),
    ("seeds", "list_type"): _("Write the number of seeds, or the seeds themselves: 0, 1, 2"),
}
"""What to say of fields that a form knows better than pydantic, by path and type of error."""
IN_A_DIMENSION = re.compile(r"(\bsearch\.\w+)\..+")
"""Values and ends of a dimension are typed into one field, too."""
Model = TypeVar("Model", bound=BaseModel)


class HasErrors:
    """A page context with errors, for the fields of its template."""

    errors: tuple[FieldError, ...]

    def errors_of(self, path: str) -> list[FieldError]:
        return [error for error in self.errors if error.path == path]


def validated(model: type[Model], values: object) -> Model:
    """The values of a form as a model. Raises Invalid with an error for each wrong field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Invalid.of(sentences(error.errors())) from None


def sentences(errors: Sequence[Any]) -> tuple[FieldError, ...]:
    """An error for each field and message, once."""
    shown: dict[tuple[str, str], FieldError] = {}
    for error, field in zip(errors, field_errors(errors), strict=True):
        known = BY_PATH.get((field.path, error["type"]))
        message = Message(known.template, **error.get("ctx", {})) if known else field.message
        if error["type"] in ("float_parsing", "int_parsing"):
            message = _ambiguous(str(error["input"])) or message
        head, _dot, last = field.path.rpartition(".")
        path = head if last.isdecimal() else field.path  # a list is typed into one field
        path = IN_A_DIMENSION.sub(r"\1", path)
        shown.setdefault((path, message), replace(field, path=path, message=message))
    return tuple(shown.values())


def _ambiguous(text: str) -> Message | None:
    try:
        plain_number(text)
    except AmbiguousNumber as error:
        return error.message
    except NotANumber:
        pass
    return None
