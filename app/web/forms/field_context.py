"""A field of a form with all that a template needs to draw it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from app.domain.errors import FieldError
from app.web.forms.fields import Field
from app.web.i18n import gettext as _
from app.web.text.fields import Words, bounds, option, words

ErrorsOf = Callable[[str], Sequence[FieldError]]
LATER = {"modules": 1, "flag": 2}
"""Kinds that stand on lines of their own, below the others."""


@dataclass(frozen=True)
class FieldView:
    """A field as it is filled in."""

    path: str
    """The input's name, and the path of its errors: `arms.1.method.r`."""
    field: Field
    words: Words
    value: str
    errors: tuple[FieldError, ...]
    placeholder: str = ""

    @property
    def changed(self) -> bool:
        """It is not at its default."""
        return self.value != self.field.default

    @property
    def hint(self) -> str:
        """What one should know, and which numbers it takes where that says something."""
        limits = bounds(self.field)
        return _("%(hint)s From %(limits)s.", hint=self.words.hint, limits=limits) if limits else self.words.hint

    @property
    def options(self) -> list[tuple[str, str]]:
        """Choices with their words; the empty one first where nothing may be chosen."""
        known = self.field.choices if not self.field.optional else ("", *self.field.choices)
        return [(value, option(self.field.name, value)) for value in known]


@dataclass(frozen=True)
class Fields:
    """Fields of one thing: those that stand open, and the rest behind a disclosure."""

    usual: tuple[FieldView, ...]
    more: tuple[FieldView, ...]

    @property
    def open(self) -> bool:
        """Something is wrong with what the disclosure holds."""
        return any(view.errors for view in self.more)

    @property
    def changed(self) -> int:
        """How many of those behind it are not at their defaults."""
        return sum(view.changed for view in self.more)

    @property
    def paths(self) -> frozenset[str]:
        """Of all of them."""
        return frozenset(view.path for view in (*self.usual, *self.more))

    @classmethod
    def of(cls, views: Iterable[FieldView], *tables: Mapping[str, Words]) -> "Fields":
        """In the order of the tables of words; a field that they do not know comes last."""
        places = {name: place for place, name in enumerate(chain(*tables))}
        ordered = sorted(
            views, key=lambda view: (LATER.get(view.field.kind, 0), places.get(view.field.name, len(places)))
        )
        return cls(tuple(v for v in ordered if v.words.usual), tuple(v for v in ordered if not v.words.usual))


def view(
    table: Mapping[str, Words],
    prefix: str,
    field: Field,
    value: str,
    errors_of: ErrorsOf,
    placeholder: str = "",
) -> FieldView:
    """A field below a path, with its words, its value and what is wrong with it."""
    path = f"{prefix}{field.name}"
    return FieldView(path, field, words(table, field.name), value, tuple(errors_of(path)), placeholder)
