"""The filter language of the run list: one line of text that selects runs.

    either  = both ("or" both)*
    both    = part ("and" part)*
    part    = "not" part | "(" either ")" | state | field sign value | field ["not"] "in" "(" value ("," value)* ")"
    sign    = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
    value   = number [unit] | "quoted text" | word | 2026-11-12 | 2026-11-12T14:00

`~`: a text contains another, in any case. A state stands alone: `failed`. A run without a value in a field matches no
comparison with it, and so every `not` of a comparison. `str()` of a condition can be parsed again.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import ClassVar, Literal, TypeAlias, cast

from app.domain.messages import Message, _, choose_from
from app.domain.runs.listing.fields import EXAMPLES, FIELDS, NAMES, UNITS, Field
from app.domain.runs.listing.filter_tokens import FilterError, Word, nearest, words
from app.domain.runs.status import RunStatus

Sign = Literal["=", "!=", "<", "<=", ">", ">=", "~"]
Value: TypeAlias = int | float | str | datetime
"""In base units."""

DEEPEST = 30
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
class _Joined:
    parts: tuple["Condition", ...]
    keyword: ClassVar[str]

    def __str__(self) -> str:
        return f" {self.keyword} ".join(map(_part, self.parts))


class Every(_Joined):
    """All parts hold."""

    keyword = "and"


class Some(_Joined):
    """A part holds."""

    keyword = "or"


Condition: TypeAlias = Is | Compare | OneOf | Not | Every | Some

VISIBLE = Not(Is("archived"))


def without_archived(condition: Condition | None) -> Condition:
    """The condition, restricted to runs that are not archived unless it mentions `archived` itself."""
    if condition is None:
        return VISIBLE
    return condition if _mentions_archived(condition) else Every((condition, VISIBLE))


def _mentions_archived(condition: Condition) -> bool:
    if isinstance(condition, Every | Some):
        return any(map(_mentions_archived, condition.parts))
    return _mentions_archived(condition.inside) if isinstance(condition, Not) else condition == Is("archived")


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
    """The condition of a filter; None if it is empty. Raises FilterError."""
    tokens = words(text)
    if len(tokens) == 1:
        return None
    parser = _Parser(tokens)
    condition = parser.either(0)
    if parser.here.kind != "end":
        raise parser.expected(_("`and`, `or`, or nothing more"))
    return condition


class _Parser:
    """Reads words one after the other: a function a rule of the grammar."""

    def __init__(self, tokens: list[Word]) -> None:
        self._words = tokens
        self._place = 0

    @property
    def here(self) -> Word:
        return self._words[self._place]

    def take(self) -> Word:
        word = self.here
        self._place += 1
        return word

    def meets(self, written: str) -> bool:
        """Take the next word if it is this keyword or sign."""
        met = self.here.kind in ("keyword", "sign") and self.here.written == written
        self._place += met
        return met

    def expected(self, what: Message) -> FilterError:
        message = _("%(shown)s is unexpected here", shown=self.here.shown)
        return FilterError(self.here.column, message, _("Write %(what)s", what=what))

    def either(self, depth: int) -> Condition:
        parts = [self.both(depth)]
        while self.meets("or"):
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def both(self, depth: int) -> Condition:
        parts = [self.part(depth)]
        while self.meets("and"):
            parts.append(self.part(depth))
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def part(self, depth: int) -> Condition:
        if depth > DEEPEST:
            message = _("A filter is at most %(most)s levels deep", most=DEEPEST)
            raise FilterError(self.here.column, message, _("Simplify it"))
        if self.meets("not"):
            return Not(self.part(depth + 1))
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
        negated = self.meets("not")
        if self.meets("in"):
            one_of = OneOf(field.name, self.several(field))
            return Not(one_of) if negated else one_of
        if negated:
            raise self.expected(_("`in` after `not`"))
        sign = self.sign(field)
        return Compare(field.name, sign, self.value(field))

    def field(self) -> Field:
        word = self.take()
        if field := NAMES.get(word.written.lower()):
            return field
        near = nearest(word.written, [*NAMES, *STATES])
        remedy = _("Did you mean `%(near)s`?", near=near) if near else choose_from((*FIELDS, *STATES))
        raise FilterError(word.column, _("`%(written)s` is not a field", written=word.written), remedy)

    def sign(self, field: Field) -> Sign:
        word = self.here
        able = ("=", "!=", "~") if field.kind == "text" else ("=", "!=", *_ORDERED)
        sign = word.written.replace("==", "=")
        if word.kind == "sign" and sign in able:
            self._place += 1
            return cast(Sign, sign)
        if word.kind != "sign" or sign not in (*_ORDERED, "~"):
            message = _("`%(name)s` needs an operator", name=field.name)
        elif field.kind == "text":
            message = _("`%(name)s` is a string, which has no order", name=field.name)
        else:
            message = _("`%(name)s` is not a string, so it cannot contain another", name=field.name)
        raise FilterError(word.column, message, _("Use one of %(operators)s or `in (…)`", operators=" ".join(able)))

    def several(self, field: Field) -> tuple[Value, ...]:
        if not self.meets("("):
            raise self.expected(_("`(` and the values, with commas between"))
        values = [self.value(field)]
        while self.meets(","):
            values.append(self.value(field))
        if not self.meets(")"):
            raise self.expected(_("`,` or `)`"))
        return tuple(values)

    def value(self, field: Field) -> Value:
        if field.kind == "text":
            return self.text()
        return self.time() if field.kind == "time" else self.number(field)

    def text(self) -> str:
        if self.here.kind == "text":
            return _ESCAPED.sub(r"\1", self.take().written[1:-1])
        if self.here.kind == "name":
            return self.take().written
        raise self.expected(EXAMPLES["text"])

    def time(self) -> datetime:
        with suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(self.here.written.strip("\"'"))
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
            self.take()
            return moment
        raise self.expected(EXAMPLES["time"])

    def number(self, field: Field) -> int | float:
        if self.here.kind != "number":
            raise self.expected(EXAMPLES[field.kind])
        word = self.take()
        factor = self.unit(field, word)
        value = float(word.written) * factor if factor != 1 else _plain(word.written)
        if not isfinite(value) or abs(value) >= 2**63:
            message = _("`%(written)s` is too large", written=word.written)
            raise FilterError(word.column, message, _("Write %(what)s", what=EXAMPLES[field.kind]))
        if field.kind == "fraction" and factor == 1 and abs(value) > 1:
            remedy = _("Write %(percent)s %% or %(fraction)g", percent=word.written, fraction=float(word.written) / 100)
            raise FilterError(word.column, _("`%(name)s` is between 0 and 1", name=field.name), remedy)
        return round(value) if field.kind in ("bytes", "count") and value == round(value) else value

    def unit(self, field: Field, number: Word) -> float:
        """The factor of the unit after a number; 1 without a unit."""
        units = UNITS.get(field.kind, {})
        word = self.here
        if word.written in units:
            self._place += 1
            return units[word.written]
        if word.kind == "name" or word.written == "%":
            message = _("`%(written)s` is not a unit of `%(name)s`", written=word.written, name=field.name)
            remedy = choose_from(units) if units else _("`%(name)s` has no unit", name=field.name)
            raise FilterError(word.column, message, remedy)
        if field.kind == "bytes" and float(number.written):
            message = _("`%(name)s` needs a unit, such as bytes, MiB or GiB", name=field.name)
            raise FilterError(word.column, message, _("Write, for example, %(written)s MiB", written=number.written))
        return 1


def _plain(text: str) -> int | float:
    """A whole number stays one: a float would not hold every id and seed."""
    return int(text) if text.lstrip("-").isdigit() and len(text) < 20 else float(text)
