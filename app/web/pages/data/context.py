"""The contexts of the pages of data: the list of datasets, a version of a dataset, an upload."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.domain.data.dataset import SPLITS as SPLIT_ORDER
from app.domain.data.findings import Finding, gravest_first
from app.domain.errors import FieldError
from app.store.data.queries import Uses
from app.store.tables import DatasetRow, UploadRow
from app.web.figures.figure import Drawn
from app.web.forms.errors import HasErrors
from app.web.pages.data.form import FORMATS, PREDEFINED, RANDOM, MappingForm
from app.web.pages.data.preview import PreviewView
from app.words.data.data import DELIMITED, DELIMITERS, ROLES, SPLITS, format_of, kind_of, source_name
from app.words.format import capitalized, share
from app.words.i18n import gettext as _

ENCODINGS = ("utf-8", "utf-16", "windows-1252", "latin-1", "windows-1251", "shift_jis", "gb18030")
"""Offered by the form; REST and the command line accept every encoding of Python."""


@dataclass(frozen=True)
class DataPage(HasErrors):
    """Every dataset, uploads to confirm, and the forms that add data."""

    datasets: Sequence[tuple[DatasetRow, int]]
    """The newest ready version of each name, or else the newest, and the number of its versions."""
    uses: Mapping[int, Uses]
    uploads: Sequence[UploadRow]
    """Uploads without a dataset."""
    source: Mapping[str, str]
    """Values of the form for a hub dataset or a directory."""
    roots: tuple[str, ...] | None
    """Directories below which data may be registered; None where the user may not read them."""
    most_bytes: int
    errors: tuple[FieldError, ...] = ()

    @property
    def waiting(self) -> bool:
        """A worker is busy with one of them."""
        return any(row.status == "preparing" for row, _versions in self.datasets) or any(
            upload.status == "reading" for upload in self.uploads
        )


@dataclass(frozen=True)
class DatasetPage:
    """A version of a dataset."""

    row: DatasetRow
    versions: Sequence[DatasetRow]
    """Versions of the same name, the newest first."""
    uses: Mapping[int, Uses]
    upload: UploadRow | None
    figure: Drawn | None = None
    """Rows by label."""
    preview: PreviewView | None = None
    """None unless it is ready."""

    @property
    def newest(self) -> bool:
        """Whether a spec that gives the name alone means this version."""
        ready = next((row for row in self.versions if row.status == "ready"), None)
        return ready is not None and ready.version == self.row.version

    @property
    def findings(self) -> list[Finding]:
        """Blocking ones first."""
        return gravest_first(self.row.findings)

    @property
    def mapped(self) -> list[tuple[str, str]]:
        columns = self.row.mapping.columns if self.row.mapping else {}
        return [(_(label), columns[role]) for role, (label, _hint) in ROLES.items() if role in columns]

    @property
    def origin(self) -> str:
        return f"{source_name(self.upload.source)}: {self.upload.shown_name}" if self.upload else _("made by a program")

    @property
    def splitting(self) -> str:
        """How its rows were assigned to splits."""
        splitting = self.row.splitting
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
        missing = ", ".join(_(SPLITS[split]) for split in SPLITS if split in splitting.missing())
        if not missing:
            return predefined
        return _("%(predefined)s; %(missing)s taken from train", predefined=predefined, missing=missing)


@dataclass(frozen=True)
class UploadPage(HasErrors):
    """An upload: being read, failed, or ready to become a dataset."""

    row: UploadRow
    form: MappingForm | None
    """None unless it is read."""
    datasets: Sequence[DatasetRow]
    """Datasets made of it."""
    errors: tuple[FieldError, ...] = ()

    @property
    def findings(self) -> list[Finding]:
        """Blocking ones first."""
        return gravest_first(self.form.scan.findings) if self.form else []

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
    def reading_options(self) -> list[tuple[str, str, list[tuple[str, str]], str]]:
        """A field for each option of reading that the file has: name, label, options, chosen value."""
        kind, options = self.form.scan.kind if self.form else None, self.row.options
        if self.row.source == "hub" or kind in ("parquet", "zip"):
            return []
        header = "" if options.header is None else str(options.header).lower()
        signs = [(sign, _(name)) for sign, name in DELIMITERS.items()]
        encodings = [(name, name) for name in dict.fromkeys([*ENCODINGS, options.encoding]) if name]
        fields = [
            ("delimiter", _("Delimiter"), signs, options.delimiter),
            ("encoding", _("Encoding"), encodings, options.encoding),
            ("header", _("First row"), [("true", _("column names")), ("false", _("data"))], header),
        ]
        detected = ("", _("detected automatically"))
        shown = ("delimiter", "encoding", "header") if kind is None or kind in DELIMITED else ("encoding",)
        return [(name, label, [detected, *some], value) for name, label, some, value in fields if name in shown]

    @property
    def formats(self) -> list[tuple[str, str]]:
        unknown = [] if self.form and self.form.format else [("", _("choose one"))]
        return [*unknown, *((form, capitalized(format_of(form))) for form in FORMATS)]

    @property
    def roles(self) -> list[tuple[str, str, str, list[tuple[str, str]], str]]:
        """A field for each role: path, label, hint, options, chosen column."""
        if self.form is None:
            return []
        columns = [(c.name, f"{c.name} ({kind_of(c.kind)})") for c in self.form.scan.columns]
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
        return [*((split, _(SPLITS[split])) for split in SPLIT_ORDER), ("", _("leave out"))]

    @property
    def shares(self) -> list[tuple[str, str, str]]:
        """Shares to type: path, label, value."""
        if self.form is None:
            return []
        named = {f"splitting.{split}": capitalized(_(SPLITS[split])) for split in self.form.shares}
        return [(path, label, self.form.value(path)) for path, label in named.items()]
