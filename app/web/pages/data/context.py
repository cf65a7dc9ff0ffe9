"""The contexts of the pages of data: the list of datasets, a version of a dataset, an upload."""

from dataclasses import dataclass
from urllib.parse import quote

from app.domain.data.dataset import SPLITS as SPLIT_ORDER
from app.domain.data.dataset import DatasetFacts
from app.domain.data.mapping import Column
from app.domain.errors import FieldError
from app.store.queries.datasets import Uses
from app.store.tables import DatasetRow, UploadRow
from app.web.figures.figure import Drawn
from app.web.format import capitalized, count, share
from app.web.forms.errors import HasErrors
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.pages.data.form import FORMATS, PREDEFINED, RANDOM, MappingForm
from app.web.pages.data.preview import PreviewView
from app.web.text.data import DELIMITED, DELIMITERS, KINDS, ROLES, SOURCES, SPLITS, format_of, tasks_of
from app.web.text.findings import FindingText, finding_texts, why_unavailable

ENCODINGS = ("utf-8", "utf-16", "windows-1252", "latin-1", "windows-1251", "shift_jis", "gb18030")
"""Offered by the form; REST and the command line accept every encoding of Python."""
NO_USES = Uses(0, 0)


@dataclass(frozen=True)
class VersionLine:
    """A version of a dataset in a table."""

    row: DatasetRow
    uses: Uses = NO_USES
    versions: int = 1
    """Of its name."""

    @property
    def title(self) -> str:
        """Its title, or its name."""
        return self.row.title or self.row.name

    @property
    def address(self) -> str:
        """Its page."""
        return address_of(self.row)

    @property
    def facts(self) -> DatasetFacts | None:
        """None unless it is ready."""
        return self.row.facts if self.row.status == "ready" else None

    @property
    def message(self) -> str:
        """Why it failed or is blocked."""
        return why_unavailable(self.row.message, self.row.blocked_by)

    @property
    def format(self) -> str:
        """What its rows are."""
        return format_of(self.facts.format) if self.facts else ""

    @property
    def tasks(self) -> str:
        """The tasks that can use it."""
        return tasks_of(self.facts.format) if self.facts else ""

    @property
    def used(self) -> str:
        """`2 studies, 12 runs`; empty if unused."""
        studies, runs = self.uses.studies, self.uses.runs
        parts = [
            ngettext("%(num)s study", "%(num)s studies", studies, num=count(studies)) if studies else "",
            ngettext("%(num)s run", "%(num)s runs", runs, num=count(runs)) if runs else "",
        ]
        return ", ".join(part for part in parts if part)


def address_of(row: DatasetRow) -> str:
    """The page of a version."""
    return f"/data/{quote(row.reference)}"


@dataclass(frozen=True)
class DataPage(HasErrors):
    """Every dataset, uploads to confirm, and the forms that add data."""

    lines: tuple[VersionLine, ...]
    """Of each name the newest version that is ready, or else the newest."""
    uploads: tuple[UploadRow, ...]
    """Without a dataset."""
    source: dict[str, str]
    """Values of the form for a hub dataset or a directory."""
    roots: tuple[str, ...]
    """Directories below which data may be registered."""
    most_bytes: int
    errors: tuple[FieldError, ...] = ()

    @property
    def waiting(self) -> bool:
        """A worker is busy with one of them."""
        return any(line.row.status == "preparing" for line in self.lines) or any(
            upload.status == "reading" for upload in self.uploads
        )

    def source_of(self, upload: UploadRow) -> str:
        """Where an upload came from."""
        return _(SOURCES[upload.source])


@dataclass(frozen=True)
class DatasetPage:
    """A version of a dataset."""

    line: VersionLine
    upload: UploadRow | None
    versions: tuple[VersionLine, ...]
    """Of the same name, the newest first."""
    figure: Drawn | None = None
    """Rows by label."""
    preview: PreviewView | None = None
    """None unless it is ready."""

    @property
    def newest(self) -> bool:
        """Whether a spec that gives the name alone means this version."""
        ready = next((line for line in self.versions if line.row.status == "ready"), None)
        return ready is not None and ready.row.version == self.line.row.version

    @property
    def findings(self) -> list[FindingText]:
        """Blocking ones first."""
        return finding_texts(self.line.row.findings)

    @property
    def mapped(self) -> list[tuple[str, str]]:
        """Roles and their columns."""
        columns = self.line.row.mapping.columns if self.line.row.mapping else {}
        return [(_(label), columns[role]) for role, (label, _hint) in ROLES.items() if role in columns]

    @property
    def origin(self) -> str:
        """Where its rows came from."""
        if self.upload is None:
            return _("made by a program")
        return f"{_(SOURCES[self.upload.source])}: {self.upload.name}"

    @property
    def splitting(self) -> str:
        """How its rows were assigned to splits."""
        splitting = self.line.row.splitting
        if splitting is None:
            return ""
        if splitting.kind == "random":
            return _(
                "random, stratified by label: %(validation)s validation, %(test)s test, seed %(seed)s",
                validation=share(splitting.validation, 1.0),
                test=share(splitting.test, 1.0),
                seed=splitting.seed,
            )
        column = splitting.column
        predefined = _("by the column %(name)s", name=column) if column else _("predefined splits")
        missing = [_(SPLITS[split]) for split in SPLITS if split in splitting.missing()]
        return (
            _("%(predefined)s; %(missing)s taken from train", predefined=predefined, missing=", ".join(missing))
            if missing
            else predefined
        )


@dataclass(frozen=True)
class UploadPage(HasErrors):
    """An upload: being read, failed, or ready to become a dataset."""

    row: UploadRow
    form: MappingForm | None
    """None unless it is read."""
    datasets: tuple[str, ...]
    """References of those made of it."""
    errors: tuple[FieldError, ...] = ()

    @property
    def findings(self) -> list[FindingText]:
        """Blocking ones first."""
        return finding_texts(self.form.scan.findings) if self.form else []

    @property
    def read_as(self) -> list[str]:
        """Kind, encoding, delimiter and header, as detected or chosen."""
        if self.form is None:
            return []
        scan = self.form.scan
        parts = [scan.kind.upper(), scan.encoding]
        if scan.kind in DELIMITED:
            parts.append(_("%(sign)s-separated", sign=_(DELIMITERS.get(scan.delimiter, "tab"))))
            parts.append(_("with header") if scan.header else _("without header"))
        return [part for part in parts if part]

    @property
    def delimited(self) -> bool:
        """Whether delimiter and header are options."""
        return self.form is None or self.form.scan.kind in DELIMITED

    @property
    def textual(self) -> bool:
        """Whether an encoding is an option."""
        return self.row.source != "hub" and (self.form is None or self.form.scan.kind != "parquet")

    @property
    def delimiters(self) -> list[tuple[str, str]]:
        """Options of the delimiter."""
        return [("", _("detected automatically")), *((sign, _(name)) for sign, name in DELIMITERS.items())]

    @property
    def encodings(self) -> list[tuple[str, str]]:
        """Options of the encoding, with the one that was chosen elsewhere."""
        names = dict.fromkeys([*ENCODINGS, self.row.options.encoding])
        return [("", _("detected automatically")), *((name, name) for name in names if name)]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Options of the first row."""
        return [("", _("detected automatically")), ("true", _("column names")), ("false", _("data"))]

    @property
    def header(self) -> str:
        """The chosen option of the first row."""
        header = self.row.options.header
        return "" if header is None else str(header).lower()

    def kind_of(self, column: Column) -> str:
        """The type of a column's values."""
        return _(KINDS[column.kind])

    @property
    def formats(self) -> list[tuple[str, str]]:
        """Options of the format."""
        return [(form, capitalized(format_of(form))) for form in FORMATS]

    @property
    def roles(self) -> list[tuple[str, str, str, list[tuple[str, str]], str]]:
        """A field for each role: path, label, hint, options, chosen column."""
        if self.form is None:
            return []
        columns = [(c.name, f"{c.name} ({self.kind_of(c)})") for c in self.form.scan.columns]
        fields = []
        for role, required, column in self.form.roles:
            label, hint = ROLES[role]
            first = ("", _("choose one") if required else _("none"))
            fields.append((f"mapping.columns.{role}", _(label), _(hint), [first, *columns], column))
        return fields

    @property
    def ways_to_split(self) -> list[tuple[str, str]]:
        """Options of how rows are assigned to splits."""
        if self.form is None:
            return []
        words = {RANDOM: _("random, stratified by label"), PREDEFINED: _("predefined splits")}
        return [
            (way, words.get(way) or _("by the column %(name)s", name=name)) for way, name in self.form.ways_to_split
        ]

    @property
    def split_options(self) -> list[tuple[str, str]]:
        """What a predefined split may become."""
        return [*((split, _(SPLITS[split])) for split in SPLIT_ORDER), ("", _("leave out"))]

    @property
    def shares(self) -> list[tuple[str, str, str]]:
        """Shares to type: path, label, value."""
        if self.form is None:
            return []
        paths = {
            f"splitting.{split}": capitalized(_(name)) for split, name in SPLITS.items() if split in self.form.shares
        }
        return [(path, label, self.form.value(path)) for path, label in paths.items()]
