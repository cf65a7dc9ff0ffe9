"""Fields of a form, made from a pydantic model's own JSON schema: a new field of a spec is in the form by itself.

Values stay text as it was typed. `Field.read` turns them into what the model is given to check; the model alone says
what is wrong with it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel

from app.web.format import rate
from app.web.numbers import NotANumber, plain_number

Kind = Literal["number", "flag", "choice", "modules", "numbers", "text"]
YES, NO = "true", "false"
PATTERN = re.compile(r"[\\*+?\[\](){}|^$]")
"""What a list of module names never holds, and a pattern that is none would not need."""


@dataclass(frozen=True)
class Field:
    """A field that one may fill in."""

    name: str
    kind: Kind
    default: str = ""
    """As one would type it; empty where the model's own default is nothing."""
    optional: bool = False
    """It may be left empty, and that means something of its own."""
    whole: bool = False
    """A number without decimals."""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    """The number is above `low`, not at it."""
    open_high: bool = False

    def read(self, text: str) -> Any:
        """The value to validate: numbers with a decimal point, lists split, everything else as it was typed."""
        match self.kind:
            case "number":
                return readable(text)
            case "numbers":
                return text.replace(",", " ").split()
            case "modules":
                names = text.replace(",", " ").split()
                return text if PATTERN.search(text) or names == ["all-linear"] else names
            case _:
                return text

    def written(self, value: object) -> str:
        """A value of the model as one would type it, so that reading gives the same again."""
        if value is None:
            return ""
        if isinstance(value, list):
            return ", ".join(str(item) for item in value)
        if isinstance(value, bool):
            return YES if value else NO
        if isinstance(value, float):
            return rate(value)
        if self.kind == "modules" and value != "all-linear" and not PATTERN.search(str(value)):
            return f"({value})"  # a pattern for one whole name, which would be read as the end of names
        return str(value)


def readable(text: str) -> str:
    """A typed number as the model reads it; text that is no number stays, for the model to refuse."""
    try:
        return plain_number(text)
    except NotANumber:
        return text


@cache
def fields_of(model: type[BaseModel]) -> tuple[Field, ...]:
    """The fields of a model in its own order, but for its tag `kind` and what is a model itself."""
    properties: Mapping[str, dict[str, Any]] = model.model_json_schema()["properties"]
    found = (_field(name, schema, model.model_fields[name].default) for name, schema in properties.items())
    return tuple(field for field in found if field is not None)


def _field(name: str, schema: Mapping[str, Any], default: object) -> Field | None:
    branches = [b for b in schema.get("anyOf", [schema]) if b.get("type") != "null"]
    if name == "kind" or any("$ref" in b or "oneOf" in b for b in branches):
        return None
    kinds = [b.get("type") for b in branches]
    optional = len(branches) < len(schema.get("anyOf", [schema]))
    known = [str(value) for b in branches for value in b.get("enum", [b["const"]] if "const" in b else [])]
    arrays = [b for b in branches if b.get("type") == "array"]
    field = Field(name, "text", optional=optional)
    if kinds == ["boolean"] and not optional:
        field = Field(name, "flag")
    elif "boolean" in kinds or known:
        choices = (YES, NO, *known) if "boolean" in kinds else tuple(known)
        field = Field(name, "choice", optional=optional, choices=choices)
    elif arrays:
        numbers = arrays[0].get("items", {}).get("type") in ("integer", "number")
        field = Field(name, "numbers" if numbers else "modules", optional=optional)
    elif kinds in (["integer"], ["number"]):
        field = _number(name, branches[0], optional)
    return replace(field, default=field.written(default))


def _number(name: str, schema: Mapping[str, Any], optional: bool) -> Field:
    low, high = schema.get("minimum"), schema.get("maximum")
    return Field(
        name,
        "number",
        optional=optional,
        whole=schema["type"] == "integer",
        low=schema.get("exclusiveMinimum") if low is None else low,
        high=schema.get("exclusiveMaximum") if high is None else high,
        open_low=low is None,
        open_high=high is None,
    )
