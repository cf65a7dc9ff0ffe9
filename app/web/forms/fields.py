"""Fields of a form, made from a pydantic model's own JSON schema: a new field of a spec is in the form by itself.

Values stay text as it was typed. `Field.read` turns them into the value that the model validates; the model alone says
what is wrong with it. The name of an input is the path of its field.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel

from app.domain.errors import FieldError
from app.domain.methods.targets import NAMED_TARGETS
from app.domain.studies.tuning.search_space import DimensionSpec
from app.web.numbers import NotANumber, plain_number
from app.words.format import decimal_sign, rate, separator, typed
from app.words.i18n import gettext as _
from app.words.i18n import language
from app.words.runs.fields import FieldText, field_text, option
from app.words.studies.tuning import dimension_text

Kind = Literal["number", "flag", "choice", "modules", "numbers", "dimension", "text"]
YES, NO = "true", "false"
RANGE = re.compile(r"(?:от\s+)?(\S+?)\s*(?:\.\.|…|–|\b(?:to|до)\b)\s*(\S+?)(?:,?\s+(log|логаритмично|linear|линейно))?")
"""A range of a search space, in the words of every language: `1e-4 to 0.01`, `1..8`, `0.5 to 2 log`."""
LOGARITHMIC = ("log", "логаритмично")
APART = re.compile(r"[;\s]+|,(?=\s|$)")
DECIMAL_COMMA = re.compile(r"[+-]?(\d+),\d+(?:e[+-]?\d+)?", re.IGNORECASE)
PATTERN = re.compile(r"[\\*+?\[\](){}|^$]")
"""Characters of a regular expression, which no list of module names has."""
ORDER_OF_KINDS = {"modules": 1, "flag": 2}
"""Kinds that stand on lines of their own, below the others."""


@dataclass(frozen=True)
class Field:
    """A field of a model, and how its values are typed."""

    name: str
    kind: Kind
    default: str = ""
    """As a person would type it; empty where the model's default is None."""
    optional: bool = False
    """It may be left empty, which is None."""
    whole: bool = False
    """A number without decimals."""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    """The number must be above `low`."""
    open_high: bool = False

    @property
    def range(self) -> str:
        """The numbers that it takes, where that helps: `[0, 1)`, `[1, 16]`; empty otherwise."""
        if self.low is None or self.high is None or self.high > (100 if self.whole else 1):
            return ""
        ends = separator().join(map(rate, (self.low, self.high)))
        return f"{'(' if self.open_low else '['}{ends}{')' if self.open_high else ']'}"

    def read(self, text: str) -> Any:
        """The value to validate: numbers with a decimal point, lists split, everything else as it was typed."""
        match self.kind:
            case "number":
                return readable(text)
            case "numbers":
                return text.replace(",", " ").split()
            case "dimension":
                if match := RANGE.fullmatch(text):
                    scale = {"log": match[3] in LOGARITHMIC} if match[3] else {}
                    return {"low": readable(match[1]), "high": readable(match[2])} | scale
                return [number for part in APART.split(text) if part for number in _numbers(part)]
            case "modules":
                names = text.replace(",", " ").split()
                return text if PATTERN.search(text) or (len(names) == 1 and names[0] in NAMED_TARGETS) else names
            case _:
                return text

    def written(self, value: object) -> str:
        """A value of the model as a person would type it; `read` gives the same value again."""
        if value is None:
            return ""
        if isinstance(value, list):
            return ", ".join(str(item) for item in value)
        if isinstance(value, DimensionSpec):
            return dimension_text(value)
        if isinstance(value, bool):
            return YES if value else NO
        if isinstance(value, float):
            return typed(value)
        if self.kind == "modules" and value not in NAMED_TARGETS and not PATTERN.search(str(value)):
            return f"({value})"  # else it would be read as a list of one name
        return str(value)


def readable(text: str) -> str:
    """A typed number as the model reads it; text that is no number stays, for the model to refuse."""
    try:
        return plain_number(text)
    except NotANumber:
        return text


def _numbers(text: str) -> list[str]:
    """Numbers between which commas stand without spaces: `4,8,16`. A single comma between digits is the decimal sign
    after a zero, and wherever the language's numbers have it."""
    if (match := DECIMAL_COMMA.fullmatch(text)) and (match[1] == "0" or decimal_sign(language()) == ","):
        return [readable(text)]
    return [number for number in text.split(",") if number]


@cache
def fields_of(model: type[BaseModel]) -> tuple[Field, ...]:
    """The fields of a model in its own order, without its tag `kind` and fields that are models."""
    properties: Mapping[str, dict[str, Any]] = model.model_json_schema()["properties"]
    fields = (_field(name, schema, model.model_fields[name].default) for name, schema in properties.items())
    return tuple(field for field in fields if field is not None)


def _field(name: str, schema: Mapping[str, Any], default: object) -> Field | None:
    if any(b.get("$ref", "").endswith("/DimensionSpec") for b in schema.get("anyOf", [])):
        return Field(name, "dimension", optional=True)
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


@dataclass(frozen=True)
class FieldView:
    """A field as it is filled in."""

    path: str
    """The input's name, and the path of its errors: `arms.1.method.r`."""
    field: Field
    text: FieldText
    value: str
    errors: Sequence[FieldError]
    placeholder: str

    @property
    def changed(self) -> bool:
        """It is not at its default."""
        return self.value != self.field.default

    @property
    def hint(self) -> str:
        """How to fill it in, and the range of its numbers."""
        limits = self.field.range
        return _("%(hint)s Range: %(limits)s.", hint=self.text.hint, limits=limits) if limits else self.text.hint

    @property
    def options(self) -> list[tuple[str, str]]:
        """Choices with their titles; the empty one first where it may be left empty."""
        values = ("", *self.field.choices) if self.field.optional else self.field.choices
        return [(value, option(self.field.name, value)) for value in values]


@dataclass(frozen=True)
class Fields:
    """The fields of one thing: those that are always shown, and the rest behind a disclosure."""

    basic: tuple[FieldView, ...]
    more: tuple[FieldView, ...]

    @classmethod
    def of(
        cls,
        table: Mapping[str, FieldText],
        fields: Mapping[str, Field],
        values: Mapping[str, str],
        errors_of: Callable[[str], Sequence[FieldError]],
        placeholders: Mapping[str, str] | None = None,
    ) -> "Fields":
        """Fields and their values by path, in the order of the table; a field that it does not know comes last. A field
        that was not sent has its default. `placeholders` say what an empty field means, by the field's name."""
        places = {name: place for place, name in enumerate(table)}
        views = [
            FieldView(
                path=path,
                field=field,
                text=field_text(table, field.name),
                value=values.get(path, field.default),
                errors=errors_of(path),
                placeholder=(placeholders or {}).get(field.name, ""),
            )
            for path, field in fields.items()
        ]
        views.sort(key=lambda v: (ORDER_OF_KINDS.get(v.field.kind, 0), places.get(v.field.name, len(places))))
        return cls(tuple(v for v in views if v.text.basic), tuple(v for v in views if not v.text.basic))

    @property
    def open(self) -> bool:
        """A field behind the disclosure has an error."""
        return any(view.errors for view in self.more)

    @property
    def changed(self) -> int:
        """Number of fields behind the disclosure that are not at their defaults."""
        return sum(view.changed for view in self.more)

    @property
    def filled(self) -> int:
        """Number of fields that hold a value or have an error."""
        return sum(bool(view.value or view.errors) for view in (*self.basic, *self.more))

    @property
    def paths(self) -> frozenset[str]:
        return frozenset(view.path for view in (*self.basic, *self.more))
