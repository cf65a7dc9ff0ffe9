"""The forms of data: a source to fetch, how to read a file, and the mapping that makes a dataset of an upload.

Fields have the paths of the request as their names. What was typed wins; then comes what a dataset of this upload
already has, then the guess.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from app.domain.data.dataset import SPLITS, Split
from app.domain.data.guesses.guessed_names import dataset_name, split_in_name
from app.domain.data.guesses.mapping import ROLES, Column, Role
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import ReadingOptions, SourceRequest, SourceScan
from app.domain.data.versions import DatasetRequest
from app.domain.errors import FieldError, Invalid
from app.domain.messages import _
from app.domain.tasks import Format
from app.store.tables import DatasetRow
from app.web.forms.errors import validated
from app.web.forms.fields import readable
from app.web.forms.sent import MAX_TEXT, source_of

FORMATS: tuple[Format, ...] = get_args(Format)
SOURCE_FIELDS = ("location", "config", "revision", "split")
MOST_SPLITS = 20
"""Distinct values of a column that may name splits."""
RANDOM, PREDEFINED, COLUMN = "random", "predefined", "column:"
"""Values of the field `splitting.by`; the last is followed by the column's name."""


def typed_source(form: Mapping[str, str]) -> dict[str, str]:
    """What was typed into the form of a source; empty where nothing was sent."""
    return {name: form.get(name, "").strip()[:MAX_TEXT] for name in SOURCE_FIELDS}


def source_request(values: Mapping[str, str]) -> SourceRequest:
    """A hub id or a directory. Raises Invalid with an error for each field."""
    return validated(SourceRequest, {"source": source_of(values["location"]), **values})


def reading_options(form: Mapping[str, str]) -> ReadingOptions:
    """How to read a file; empty options are detected automatically. Raises Invalid with an error for each field."""
    return validated(ReadingOptions, {name: form[name] for name in ReadingOptions.model_fields if form.get(name)})


@dataclass(frozen=True)
class MappingForm:
    """The values of the mapping's fields, and what the form offers for them."""

    scan: SourceScan
    values: Mapping[str, str]

    @classmethod
    def initial(cls, scan: SourceScan, upload_name: str, dataset: DatasetRow | None) -> "MappingForm":
        """Before anything was typed; `dataset` was made of this upload."""
        mapping = (dataset.mapping if dataset else None) or scan.mapping
        splitting = (dataset.splitting if dataset else None) or scan.splitting
        values = {
            "name": dataset.name if dataset else dataset_name(upload_name.split(",")[0]),
            "title": dataset.title if dataset else "",
            "mapping.format": mapping.format if mapping else "",
            "splitting.by": _by(splitting),
            "splitting.validation": f"{splitting.validation:g}",
            "splitting.test": f"{splitting.test:g}",
            "splitting.seed": str(splitting.seed),
            "splitting.duplicates": splitting.duplicates,
        }
        if mapping:
            values |= {f"mapping.columns.{role}": column for role, column in mapping.columns.items()}
            values |= {f"label:{value}": name for value, name in mapping.label_names.items()}
        values |= {f"split:{name}": split for split, names in splitting.names.items() for name in names}
        return cls(scan, values)

    def typed(self, form: Mapping[str, str]) -> "MappingForm":
        """With what was typed; fields that were not shown keep their values. Values of labels and splits come in pairs:
        `label-value.3` and `label-name.3`."""
        values = {name: _stripped(name, value) for name, value in form.items() if "-value." not in name}
        for kind, field in (("label", "label-name"), ("split", "split-as")):
            for name, value in form.items():
                stem, _dot, place = name.partition(".")
                if stem == f"{kind}-value":
                    values[f"{kind}:{value}"] = values.get(f"{field}.{place}", "")
        return MappingForm(self.scan, dict(self.values) | values)

    def value(self, path: str) -> str:
        return self.values.get(path, "")

    @property
    def format(self) -> Format | None:
        """Format of the rows; None until one is chosen."""
        return next((form for form in FORMATS if form == self.value("mapping.format")), None)

    @property
    def roles(self) -> list[tuple[Role, bool, str]]:
        """The roles of the format: whether each is required, and its column."""
        if self.format is None:
            return []
        roles = ROLES[self.format]
        return [
            (role, role in roles.required, self.value(f"mapping.columns.{role}"))
            for role in (*roles.required, *roles.optional)
        ]

    @property
    def labels(self) -> list[tuple[str, int, str]]:
        """Values of the label column with their rows and names; empty where they are too many to list."""
        column = self._label_column
        return [(value, rows, self.value(f"label:{value}")) for value, rows in column.values.items()] if column else []

    @property
    def unlisted_labels(self) -> int:
        """Values of the label column beyond those listed."""
        column = self._label_column if self.labels else None
        return max(0, (column.distinct or 0) - len(column.values)) if column else 0

    @property
    def tag_names(self) -> str:
        """Names of tags that are numbers: those of 0, 1, 2, …, with commas between them."""
        earlier = {key.removeprefix("label:"): name for key, name in self.values.items() if key.startswith("label:")}
        numbers = sorted((value for value in earlier if value.isdecimal()), key=int)
        return self.values.get("mapping.label_names", ", ".join(earlier[number] for number in numbers))

    @property
    def label_names(self) -> dict[str, str]:
        """Names by value: those typed, and earlier ones of values that are not listed."""
        if self.format == "tagged":
            typed = (name.strip() for name in self.tag_names.split(","))
            return {str(number): name for number, name in enumerate(typed) if name}
        listed = {value: name for value, _rows, name in self.labels}
        earlier = {key.removeprefix("label:"): name for key, name in self.values.items() if key.startswith("label:")}
        names = (earlier if self.unlisted_labels else {}) | listed
        return {value: name for value, name in names.items() if name and name != value}

    @property
    def by(self) -> str:
        """How rows are assigned to splits: RANDOM, PREDEFINED, or COLUMN with a name."""
        chosen = self.value("splitting.by")
        return chosen if chosen in dict(self.ways_to_split) else RANDOM

    @property
    def ways_to_split(self) -> list[tuple[str, str]]:
        """Values of `splitting.by`, each with the name of its column."""
        mapped = {column for _role, _required, column in self.roles}
        columns = [c.name for c in self.scan.columns if _names_splits(c) and c.name not in mapped]
        predefined = [(PREDEFINED, "")] if any(self.scan.splits) else []
        return [(RANDOM, ""), *predefined, *((f"{COLUMN}{name}", name) for name in columns)]

    @property
    def splits(self) -> list[tuple[str, int, str]]:
        """Predefined splits with their rows, and what each becomes; empty for random splits."""
        if self.by == PREDEFINED:
            rows = {name: rows for name, rows in self.scan.splits.items() if name}
        else:
            column = self._column(self.by.removeprefix(COLUMN)) if self.by != RANDOM else None
            rows = dict(column.values) if column else {}
        return [(name, n, self.values.get(f"split:{name}", split_in_name(name) or "")) for name, n in rows.items()]

    @property
    def shares(self) -> list[Split]:
        """Splits that take a share of the rows, since the source does not define them."""
        predefined = {split for _name, _rows, split in self.splits}
        return [split for split in SPLITS[1:] if split not in predefined]

    def has_field(self, path: str) -> bool:
        """Whether the form shows a field of that path now."""
        paths = {"name", "title", "mapping.format", "splitting.by", "splitting.seed", "splitting.duplicates"}
        paths |= {f"mapping.columns.{role}" for role, _required, _column in self.roles}
        paths |= {f"splitting.{split}" for split in self.shares}
        paths |= {"mapping.label_names"} if self.labels or self.format == "tagged" else set()
        return path in paths | ({"splitting.names"} if self.splits else set())

    def request(self, upload_id: int) -> DatasetRequest:
        """The dataset that the form describes. Raises Invalid with an error for each field."""
        if self.format is None:
            raise Invalid.field("mapping.format", _("The format of the rows is missing"), _("Choose one"))
        values: dict[str, Any] = {
            "name": self.value("name"),
            "title": self.value("title"),
            "upload_id": upload_id,
            "mapping": {
                "format": self.format,
                "columns": {role: column for role, _required, column in self.roles if column},
                "label_names": self.label_names,
            },
            "splitting": self._splitting(),
        }
        return validated(DatasetRequest, values)

    def _splitting(self) -> dict[str, Any]:
        typed = {name: self.value(f"splitting.{name}") for name in ("validation", "test", "seed")}
        splitting: dict[str, Any] = {name: readable(value) for name, value in typed.items() if value}
        splitting["duplicates"] = self.value("splitting.duplicates") or "keep"
        if self.by == RANDOM:
            return splitting | {"kind": "random"}
        names = {split: [name for name, _rows, chosen in self.splits if chosen == split] for split in SPLITS}
        return splitting | {
            "kind": "predefined",
            "column": "" if self.by == PREDEFINED else self.by.removeprefix(COLUMN),
            "names": {split: values for split, values in names.items() if values},
        }

    @property
    def _label_column(self) -> Column | None:
        return self._column(self.value("mapping.columns.label")) if self.format == "labelled" else None

    def _column(self, name: str) -> Column | None:
        return next((column for column in self.scan.columns if column.name == name), None)


def at_fields(errors: Sequence[FieldError]) -> tuple[FieldError, ...]:
    """Errors about the request, at the fields of this form."""
    return tuple(FieldError(_field(error.path), error.message, error.remedy) for error in errors)


def _stripped(name: str, value: str) -> str:
    """Without surrounding white space, except for names of columns, which may have some."""
    return value if name.startswith(("mapping.columns.", "splitting.by")) else value.strip()[:MAX_TEXT]


def _by(splitting: Splitting) -> str:
    if splitting.kind == "random":
        return RANDOM
    return f"{COLUMN}{splitting.column}" if splitting.column else PREDEFINED


def _names_splits(column: Column) -> bool:
    return 2 <= len(column.values) <= MOST_SPLITS and column.distinct == len(column.values)


def _field(path: str) -> str:
    for group in ("mapping.label_names", "splitting.names"):
        if path.startswith(group):
            return group
    if path in ("splitting", "splitting.kind", "splitting.column"):
        return "splitting.by"
    return "mapping.format" if path in ("mapping", "mapping.columns") else path
