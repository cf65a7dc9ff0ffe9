"""The filter language of the run list: one line of text that selects runs.

    either  = both ("or" both)*
    both    = one ("and" one)*
    one     = "not" one | "(" either ")" | state | field sign value | field ["not"] "in" "(" value ("," value)* ")"
    sign    = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
    value   = number [unit] | "quoted text" | word | 2026-11-12 | 2026-11-12T14:00

`~` asks whether a text contains another, whatever its case. A state stands alone: `failed`. A run that has no value in
a field fulfils no comparison with it, and so every `not` of one. `str()` of what was read can be read again.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Literal, TypeAlias, cast

from app.domain.messages import Message, _, choose_from
from app.domain.runs.fields import FIELDS, NAMES, UNITS, Field
from app.domain.runs.filter_tokens import FilterError, Word, nearest, words
from app.domain.runs.status import RunStatus

Sign = Literal["=", "!=", "<", "<=", ">", ">=", "~"]
Value: TypeAlias = int | float | str | datetime
"""In base units."""

DEEPEST = 30
MOST_PARTS = 100
MOST_VALUES = 200
STATES = (*(status.value for status in RunStatus), "trial", "imported", "archived")
"""Words that stand alone. A trial is a run of a study's tuning, an imported run a result from elsewhere: they count in
no verdict."""
_ORDERED = ("<", "<=", ">", ">=")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True)
class Is:
    """The run is in a state."""

    state: str

    def __str__(self) -> str:
        return self.state


@dataclass(frozen=True)
class Compare:
    """A comparison of a field with a value."""

    field: str
    sign: Sign
    value: Value

    def __str__(self) -> str:
        return f"{self.field} {self.sign} {written(FIELDS[self.field], self.value)}"


@dataclass(frozen=True)
class OneOf:
    """A field has one of several values."""

    field: str
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.field} in ({', '.join(written(FIELDS[self.field], v) for v in self.values)})"


@dataclass(frozen=True)
class Not:
    """What is inside does not hold."""

    inside: "Condition"

    def __str__(self) -> str:
        return f"not {_part(self.inside)}"


@dataclass(frozen=True)
class Every:
    """All parts hold."""

    parts: tuple["Condition", ...]

    def __str__(self) -> str:
        return " and ".join(map(_part, self.parts))


@dataclass(frozen=True)
class Some:
    """A part holds."""

    parts: tuple["Condition", ...]

    def __str__(self) -> str:
        return " or ".join(map(_part, self.parts))


Condition: TypeAlias = Is | Compare | OneOf | Not | Every | Some

VISIBLE = Not(Is("archived"))


def without_archived(condition: Condition | None) -> Condition:
    """The condition, restricted to runs that are not archived unless it mentions `archived` itself."""
    if condition is None:
        return VISIBLE
    return condition if _mentions(condition, "archived") else Every((condition, VISIBLE))


def _mentions(condition: Condition, state: str) -> bool:
    match condition:
        case Is(named):
            return named == state
        case Not(inside):
            return _mentions(inside, state)
        case Every(parts) | Some(parts):
            return any(_mentions(part, state) for part in parts)
        case _:
            return False


def _part(condition: Condition) -> str:
    return f"({condition})" if isinstance(condition, Every | Some) else str(condition)


def written(field: Field, value: Value) -> str:
    """A value as a filter has it."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return f"{value!r} B" if field.kind == "bytes" else repr(value)


def parse(text: str) -> Condition | None:
    """What a filter asks for; None if it is empty. Raises FilterError."""
    read = words(text)
    if len(read) == 1:
        return None
    found = _Reader(read)
    condition = found.either(0)
    if found.here.kind != "end":
        raise found.expected(_("`and`, `or`, or nothing more"))
    return condition


class _Reader:
    """Reads words one after the other: a function a rule of the grammar."""

    def __init__(self, read: list[Word]) -> None:
        self._words = read
        self._place = 0
        self._parts = 0

    @property
    def here(self) -> Word:
        return self._words[self._place]

    def take(self) -> Word:
        word = self.here
        self._place += 1
        return word

    def meets(self, *written: str) -> bool:
        """Take the next word if it is one of these."""
        if self.here.kind in ("keyword", "sign") and self.here.written in written:
            self._place += 1
            return True
        return False

    def expected(self, what: Message) -> FilterError:
        message = _("%(shown)s is unexpected here", shown=self.here.shown)
        return FilterError(self.here.column, message, _("Write %(what)s", what=what))

    def either(self, depth: int) -> Condition:
        parts = [self.both(depth)]
        while self.meets("or"):
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def both(self, depth: int) -> Condition:
        parts = [self.one(depth)]
        while self.meets("and"):
            parts.append(self.one(depth))
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def one(self, depth: int) -> Condition:
        self._parts += 1
        if depth > DEEPEST or self._parts > MOST_PARTS:
            most = (
                _("A filter is at most %(most)s levels deep", most=DEEPEST)
                if depth > DEEPEST
                else _("A filter has at most %(most)s parts", most=MOST_PARTS)
            )
            raise FilterError(self.here.column, most, _("Simplify it"))
        if self.meets("not"):
            return Not(self.one(depth + 1))
        if self.meets("("):
            inside = self.either(depth + 1)
            if not self.meets(")"):
                raise self.expected(_("`)`, `and` or `or`"))
            return inside
        return self.comparison()

    def comparison(self) -> Condition:
        if self.here.kind != "name":
            raise self.expected(_("a field such as `accuracy`, a state such as `failed`, `not` or `(`"))
        if self.here.written.lower() in STATES:
            return Is(self.take().written.lower())
        field = self.field()
        if self.meets("not"):
            if not self.meets("in"):
                raise self.expected(_("`in` after `not`"))
            return Not(OneOf(field.name, self.several(field)))
        if self.meets("in"):
            return OneOf(field.name, self.several(field))
        sign = self.sign(field)
        return Compare(field.name, sign, self.value(field))

    def field(self) -> Field:
        word = self.take()
        field = NAMES.get(word.written.lower())
        if field is not None:
            return field
        near = nearest(word.written, [*NAMES, *STATES])
        remedy = (
            _("Did you mean `%(near)s`?", near=near)
            if near
            else _("Fields are %(fields)s; states are %(states)s", fields=", ".join(FIELDS), states=", ".join(STATES))
        )
        raise FilterError(word.column, _("`%(written)s` is not a field", written=word.written), remedy)

    def sign(self, field: Field) -> Sign:
        word = self.here
        able = ("=", "!=", "~") if field.kind == "text" else ("=", "!=", *_ORDERED)
        sign = word.written.replace("==", "=")
        if word.kind == "sign" and sign in able:
            self._place += 1
            return cast(Sign, sign)
        wanted = _("Use one of %(operators)s or `in (…)`", operators=" ".join(able))
        if word.kind == "sign" and sign in (*_ORDERED, "~"):
            what = (
                _("`%(name)s` is a string, which has no order", name=field.name)
                if field.kind == "text"
                else _("`%(name)s` is not a string, so it cannot contain another", name=field.name)
            )
            raise FilterError(word.column, what, wanted)
        message = _("`%(name)s` needs an operator", name=field.name)
        raise FilterError(word.column, message, wanted)

    def several(self, field: Field) -> tuple[Value, ...]:
        if not self.meets("("):
            raise self.expected(_("`(` and the values, with commas between"))
        values = [self.value(field)]
        while self.meets(","):
            if len(values) == MOST_VALUES:
                raise FilterError(
                    self.here.column,
                    _("A list has at most %(most)s values", most=MOST_VALUES),
                    _("Use a range"),
                )
            values.append(self.value(field))
        if not self.meets(")"):
            raise self.expected(_("`,` or `)`"))
        return tuple(values)

    def value(self, field: Field) -> Value:
        match field.kind:
            case "text":
                return self.text()
            case "time":
                return self.time()
            case _:
                return self.number(field)

    def text(self) -> str:
        if self.here.kind == "text":
            return _ESCAPED.sub(r"\1", self.take().written[1:-1])
        if self.here.kind == "name":
            return self.take().written
        raise self.expected(_('a string in quotes, such as "lora"'))

    def time(self) -> datetime:
        if self.here.kind not in ("time", "text"):
            raise self.expected(_("a date or a time, such as 2026-11-12 or 2026-11-12T14:00"))
        word = self.take()
        try:
            found = datetime.fromisoformat(word.written.strip("\"'"))
            return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            raise FilterError(
                word.column,
                _("%(shown)s is not a date", shown=word.shown),
                _("Use a date such as 2026-11-12 or 2026-11-12T14:00"),
            ) from None

    def number(self, field: Field) -> int | float:
        if self.here.kind != "number":
            raise self.expected(EXAMPLES[field.kind])
        word = self.take()
        factor = self.unit(field, word)
        value = float(word.written) * factor if factor != 1 else _plain(word.written)
        if not isfinite(value) or abs(value) >= 2**63:
            raise FilterError(
                word.column,
                _("`%(written)s` is too large", written=word.written),
                _("Write %(what)s", what=EXAMPLES[field.kind]),
            )
        if field.kind == "fraction" and factor == 1 and abs(value) > 1:
            meant = _("Write %(percent)s %% or %(fraction)g", percent=word.written, fraction=float(word.written) / 100)
            raise FilterError(word.column, _("`%(name)s` is between 0 and 1", name=field.name), meant)
        return round(value) if field.kind in ("bytes", "count") and value == round(value) else value

    def unit(self, field: Field, number: Word) -> float:
        """By what the number before it is multiplied."""
        units = UNITS.get(field.kind, {})
        word = self.here
        if word.kind == "name" or word.written == "%":
            if word.written not in units:
                known = choose_from(units) if units else _("`%(name)s` has no unit", name=field.name)
                raise FilterError(
                    word.column,
                    _("`%(written)s` is not a unit of `%(name)s`", written=word.written, name=field.name),
                    known,
                )
            self._place += 1
            return units[word.written]
        if field.kind == "bytes" and float(number.written):
            remedy = _("Write, for example, %(written)s MiB", written=number.written)
            raise FilterError(
                word.column, _("`%(name)s` needs a unit, such as bytes, MiB or GiB", name=field.name), remedy
            )
        return 1


EXAMPLES = {
    "fraction": _("a number such as 0.9 or 90 %"),
    "bytes": _("a number with its unit, such as 2 GiB"),
    "seconds": _("a number of seconds, or with its unit, such as 5 min"),
    "count": _("a number such as 8 or 1.5 M"),
    "number": _("a number such as 2e-5"),
}


def _plain(text: str) -> int | float:
    """A whole number stays one: a float would not hold every id and seed."""
    return int(text) if text.lstrip("-").isdigit() and len(text) < 20 else float(text)
