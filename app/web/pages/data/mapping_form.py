"""The form in which an upload's mapping is confirmed or changed. Its fields are called as the paths of the request.

What was typed wins; where nothing was, a dataset that was made of the upload speaks, or else the reader's guess.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError
from starlette.datastructures import FormData

from app.domain.data.dataset import SPLITS
from app.domain.data.guesses import dataset_name, split_in_name
from app.domain.data.mapping import ROLES, Column, Role
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import SourceScan
from app.domain.data.versions import DatasetRequest
from app.domain.errors import FieldError, Invalid
from app.domain.messages import _
from app.domain.tasks import Format
from app.store.tables import DatasetRow
from app.web.forms.fields import readable
from app.web.forms.sentences import sentences

FORMATS: tuple[Format, ...] = get_args(Format)
LONGEST = 500
MOST_FIELDS = 400
MOST_SPLITS = 20
"""Different values of a column that may name splits."""
MADE, OWN, COLUMN = "made", "source", "column:"
"""Who says which row is in which split: made here, the source, a column of it."""


class Chosen(NamedTuple):
    """A column's place in the mapping."""

    role: Role
    required: bool
    column: str


@dataclass(frozen=True)
class MappingForm:
    """What stands in the fields."""

    scan: SourceScan
    values: Mapping[str, str]

    @classmethod
    def first(cls, scan: SourceScan, upload_name: str, made: DatasetRow | None) -> "MappingForm":
        """Before anything was typed."""
        mapping = (made.mapping if made else None) or scan.mapping
        splitting = (made.splitting if made else None) or scan.splitting
        values = {
            "name": made.name if made else dataset_name(upload_name.split(",")[0]),
            "title": made.title if made else "",
            "mapping.format": mapping.format if mapping else "",
            "splitting.by": _by(splitting),
            "splitting.validation": f"{splitting.validation:g}",
            "splitting.test": f"{splitting.test:g}",
            "splitting.seed": str(splitting.seed),
            "splitting.repeated": splitting.repeated,
        }
        if mapping:
            values |= {f"mapping.columns.{role}": column for role, column in mapping.columns.items()}
            values |= {f"label:{value}": name for value, name in mapping.label_names.items()}
        values |= {f"split:{name}": split for split, names in splitting.names.items() for name in names}
        return cls(scan, values)

    def typed(self, form: FormData) -> "MappingForm":
        """With what was typed; fields that were not shown keep what they had. Values of labels and splits are in pairs:
        `label-value.3` and `label-name.3`."""
        sent = {name: value for name, value in form.items() if isinstance(value, str)}
        values = {name: _cleaned(name, value) for name, value in sent.items() if "-value." not in name}
        for kind, of in (("label", "label-name"), ("split", "split-as")):
            for name, value in sent.items():
                stem, _dot, place = name.partition(".")
                if stem == f"{kind}-value":
                    values[f"{kind}:{value}"] = values.get(f"{of}.{place}", "")
        return MappingForm(self.scan, dict(self.values) | values)

    def value(self, path: str) -> str:
        """What stands in a field."""
        return self.values.get(path, "")

    @property
    def format(self) -> Format | None:
        """Of the rows; None until one is chosen."""
        return next((form for form in FORMATS if form == self.value("mapping.format")), None)

    @property
    def roles(self) -> list[Chosen]:
        """What the format's rows are made of, and of which columns."""
        if self.format is None:
            return []
        roles = ROLES[self.format]
        found = [Chosen(role, True, self.value(f"mapping.columns.{role}")) for role in roles.required]
        return found + [Chosen(role, False, self.value(f"mapping.columns.{role}")) for role in roles.optional]

    @property
    def labels(self) -> list[tuple[str, int, str]]:
        """Values of the label's column, how often each comes, and its name here; none if it has too many to list."""
        wanted = self.value("mapping.columns.label") if self.format == "labelled" else ""
        column = self._column(wanted)
        values = column.values if column else {}
        return [(value, rows, self.value(f"label:{value}")) for value, rows in values.items()]

    @property
    def unlisted(self) -> int:
        """How many more values the label's column has than are listed."""
        column = self._column(self.value("mapping.columns.label")) if self.labels else None
        return max(0, (column.distinct or 0) - len(column.values)) if column else 0

    @property
    def label_names(self) -> dict[str, str]:
        """Names by value: those that were typed, and those that values beyond the list have had before."""
        listed = {value: name for value, _rows, name in self.labels}
        kept = {key.removeprefix("label:"): name for key, name in self.values.items() if key.startswith("label:")}
        found = (kept if self.unlisted else {}) | listed
        return {value: name for value, name in found.items() if name and name != value}

    @property
    def by(self) -> str:
        """Who says which row is in which split."""
        asked = self.value("splitting.by")
        return asked if asked in dict(self.ways) else MADE

    @property
    def ways(self) -> list[tuple[str, str]]:
        """Who may say it: a word for the form, and the column's name."""
        taken = {chosen.column for chosen in self.roles}
        able = [c.name for c in self.scan.columns if _names_splits(c) and c.name not in taken]
        own = [(OWN, "")] if any(self.scan.splits) else []
        return [(MADE, ""), *own, *((f"{COLUMN}{name}", name) for name in able)]

    @property
    def splits(self) -> list[tuple[str, int, str]]:
        """Splits of the source, their rows, and what each is here; none where the splits are made here."""
        if self.by == OWN:
            found = {name: rows for name, rows in self.scan.splits.items() if name}
        else:
            column = self._column(self.by.removeprefix(COLUMN)) if self.by != MADE else None
            found = dict(column.values) if column else {}
        return [
            (name, rows, self.values.get(f"split:{name}", split_in_name(name) or "")) for name, rows in found.items()
        ]

    @property
    def cuts(self) -> list[str]:
        """Splits that are cut from rows here, for the source has none for them."""
        given = {split for _name, _rows, split in self.splits}
        return [split for split in SPLITS[1:] if split not in given]

    def request(self, upload_id: int) -> DatasetRequest:
        """What it means. Raises Invalid with an error for each field that is wrong."""
        if self.format is None:
            raise Invalid.field("mapping.format", _("The format of the rows is missing"), _("Choose one"))
        body: dict[str, Any] = {
            "name": self.value("name"),
            "title": self.value("title"),
            "upload_id": upload_id,
            "mapping": {
                "format": self.format,
                "columns": {role: column for role, _needed, column in self.roles if column},
                "label_names": self.label_names,
            },
            "splitting": self._splitting(),
        }
        try:
            return DatasetRequest.model_validate(body)
        except ValidationError as error:
            fields = [FieldError(_field(f.path), f.message, f.remedy) for f in sentences(error.errors())]
            raise Invalid.of(fields) from None

    def _splitting(self) -> dict[str, Any]:
        found: dict[str, Any] = {"repeated": self.value("splitting.repeated") or "keep"}
        for name in ("validation", "test", "seed"):
            if self.value(f"splitting.{name}"):
                found[name] = readable(self.value(f"splitting.{name}"))
        if self.by == MADE:
            return found | {"kind": "made"}
        names = {split: [name for name, _rows, of in self.splits if of == split] for split in SPLITS}
        column = "" if self.by == OWN else self.by.removeprefix(COLUMN)
        return found | {"kind": "source", "column": column, "names": {s: named for s, named in names.items() if named}}

    def _column(self, name: str) -> Column | None:
        return next((column for column in self.scan.columns if column.name == name), None)


def at_fields(errors: Sequence[FieldError]) -> tuple[FieldError, ...]:
    """What a service refuses, at the fields of this form."""
    return tuple(FieldError(_field(error.path), error.message, error.remedy) for error in errors)


def _cleaned(name: str, value: str) -> str:
    """What was typed without white space around it; a column's name is the source's, which may have some."""
    return value if name.startswith(("mapping.columns.", "splitting.by")) else value.strip()[:LONGEST]


def _by(splitting: Splitting) -> str:
    if splitting.kind == "made":
        return MADE
    return f"{COLUMN}{splitting.column}" if splitting.column else OWN


def _names_splits(column: Column) -> bool:
    return 2 <= len(column.values) <= MOST_SPLITS and column.distinct == len(column.values)


def _field(path: str) -> str:
    """Where an error of the request is shown."""
    for within in ("mapping.label_names", "splitting.names"):
        if path.startswith(within):
            return within
    if path in ("splitting", "splitting.kind", "splitting.column"):
        return "splitting.by"
    return "mapping.format" if path in ("mapping", "mapping.columns") else path
