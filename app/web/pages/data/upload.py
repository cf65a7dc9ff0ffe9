"""The context of an upload's page: what was read, and the mapping to confirm."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.data.dataset import SPLITS as SPLIT_NAMES
from app.domain.data.uploads import SourceScan
from app.domain.errors import FieldError
from app.store.tables import UploadRow
from app.web.format import capitalized, count
from app.web.i18n import gettext as _
from app.web.pages.data.findings import FindingView, views
from app.web.pages.data.mapping_form import FORMATS, MADE, OWN, MappingForm
from app.web.text.data import DELIMITED, DELIMITERS, KINDS, ROLES, SPLITS, format_of

ENCODINGS = ("utf-8", "utf-16", "windows-1252", "latin-1", "windows-1251", "shift_jis", "gb18030")
"""That are offered; REST and the command line take any that Python knows."""


@dataclass(frozen=True)
class RoleField:
    """A column to choose."""

    path: str
    label: str
    hint: str
    options: list[tuple[str, str]]
    chosen: str
    errors: list[FieldError]


@dataclass(frozen=True)
class UploadPage:
    """An upload while it is read, once it is, or why it is not."""

    row: UploadRow
    form: MappingForm | None
    """None unless it is read."""
    made: tuple[str, ...]
    """Datasets that were made of it."""
    errors: tuple[FieldError, ...] = ()

    @property
    def scan(self) -> SourceScan | None:
        """What was found."""
        return self.form.scan if self.form else None

    @property
    def message(self) -> str:
        """Why it failed."""
        return self.row.message

    @property
    def findings(self) -> tuple[FindingView, ...]:
        """What stands out already."""
        return views(self.scan.findings) if self.scan else ()

    @property
    def reason(self) -> str:
        """Why the mapping is guessed so, or is not."""
        return self.scan.reason if self.scan else ""

    @property
    def read_as(self) -> list[str]:
        """Kind, encoding, delimiter, header: what was found out or said."""
        if self.scan is None:
            return []
        found = [self.scan.kind.upper()]
        if self.scan.encoding:
            found.append(self.scan.encoding)
        if self.scan.kind in DELIMITED:
            found.append(_("fields apart by %(sign)s", sign=_(DELIMITERS.get(self.scan.delimiter, "tab"))))
            found.append(_("names in the first row") if self.scan.header else _("no names in the first row"))
        return found

    @property
    def delimited(self) -> bool:
        """Delimiter and header can be said."""
        return self.scan is None or self.scan.kind in DELIMITED

    @property
    def textual(self) -> bool:
        """An encoding can be said."""
        return self.row.source != "hub" and (self.scan is None or self.scan.kind != "parquet")

    @property
    def delimiters(self) -> list[tuple[str, str]]:
        """To choose from."""
        return [("", _("found out")), *((sign, _(name)) for sign, name in DELIMITERS.items())]

    @property
    def encodings(self) -> list[tuple[str, str]]:
        """To choose from; what was said elsewhere besides."""
        said = self.row.options.encoding
        named = list(dict.fromkeys([*ENCODINGS, *([said] if said else [])]))
        return [("", _("found out")), *((name, name) for name in named)]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """To choose from."""
        return [("", _("found out")), ("true", _("it names the columns")), ("false", _("it is a row as the others"))]

    @property
    def header(self) -> str:
        """As it was said."""
        said = self.row.options.header
        return "" if said is None else str(said).lower()

    @property
    def columns(self) -> list[tuple[str, str, list[str], str, str]]:
        """Name, kind, examples, and how many rows are empty and how many values differ."""
        return [
            (
                c.name,
                _(KINDS[c.kind]),
                c.examples[:3],
                count(c.empty) if c.empty else "",
                count(c.distinct) if c.distinct is not None else _("many"),
            )
            for c in (self.scan.columns if self.scan else [])
        ]

    @property
    def formats(self) -> list[tuple[str, str]]:
        """What the rows may be."""
        return [(form, capitalized(format_of(form))) for form in FORMATS]

    @property
    def roles(self) -> list[RoleField]:
        """Which column is which."""
        if self.form is None:
            return []
        names = [(c.name, f"{c.name} ({_(KINDS[c.kind])})") for c in self.form.scan.columns]
        found = []
        for chosen in self.form.roles:
            label, hint = ROLES[chosen.role]
            path = f"mapping.columns.{chosen.role}"
            first = ("", _("choose one") if chosen.required else _("none"))
            found.append(RoleField(path, _(label), _(hint), [first, *names], chosen.column, list(self.errors_of(path))))
        return found

    @property
    def ways(self) -> list[tuple[str, str]]:
        """Who says which row is in which split."""
        if self.form is None:
            return []
        words = {MADE: _("made here: by label, in fixed shares"), OWN: _("the source's own splits")}
        return [(way, words.get(way) or _("the column %(name)s", name=name)) for way, name in self.form.ways]

    @property
    def split_options(self) -> list[tuple[str, str]]:
        """What a split of the source may be here."""
        return [*((name, _(SPLITS[name])) for name in SPLIT_NAMES), ("", _("left out"))]

    @property
    def cuts(self) -> list[tuple[str, str, str]]:
        """Shares to type: path, name, value."""
        if self.form is None:
            return []
        return [
            (f"splitting.{split}", capitalized(_(SPLITS[split])), self.form.value(f"splitting.{split}"))  # type: ignore[index]
            for split in self.form.cuts
        ]

    def errors_of(self, path: str) -> Sequence[FieldError]:
        """What is wrong with a field."""
        return [error for error in self.errors if error.path == path]

    def has_field(self, path: str) -> bool:
        """Whether the form shows a field of that path now."""
        if self.form is None:
            return False
        paths = {"name", "title", "mapping.format", "splitting.by", "splitting.seed", "splitting.repeated"}
        paths |= {role.path for role in self.roles} | {cut for cut, _name, _value in self.cuts}
        paths |= {"mapping.label_names"} if self.form.labels else set()
        return path in paths | ({"splitting.names"} if self.form.splits else set())
