"""What can be stated of a training that Vezna did not run: its model and data, its settings, its costs.

Numbers are checked strictly: no booleans, no numbers in quotes, none that overflow.
"""

import sys
from collections.abc import Mapping
from reprlib import repr as short
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.domain.messages import _
from app.domain.methods import METHODS, Family
from app.domain.runs.training import LearningRate
from app.domain.validation import Key, Line, Name, invalid_field

Setting = bool | int | float | Line | None
MOST_BYTES = 2**62
MOST_SETTINGS = 300
LONGEST_NESTING = 4


def as_number(value: object) -> object:
    """Refuse booleans and numbers in quotes."""
    if isinstance(value, bool | str):
        raise invalid_field(
            "", _("Must be a number, not %(value)s", value=short(value)), _("Write it without quotes, such as 0.47")
        )
    return _countable("", value)


def _countable(where: str, value: object) -> object:
    """Refuse numbers that overflow: a JSON parser reads 1e999 as infinity, which would be stored as null."""
    if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
        raise invalid_field(
            where, _("The number is too large to store"), _("Use at most 1.8e308, or put a setting in quotes")
        )
    return value


def _fraction(value: object) -> object:
    value = as_number(value)
    if isinstance(value, int | float) and not 0 <= value <= 1:
        raise invalid_field(
            "",
            _("A score is a fraction from 0 to 1, not %(value)g", value=value),
            _("Write %(percent)g %% as %(fraction)g", percent=value, fraction=value / 100)
            if 1 < value <= 100
            else _("Divide by its largest value"),
        )
    return value


Fraction = Annotated[float, Field(ge=0, le=1), BeforeValidator(_fraction)]
Bytes = Annotated[int, Field(ge=0, le=MOST_BYTES), BeforeValidator(as_number)]
Seconds = Annotated[float, Field(ge=0, le=1e12), BeforeValidator(as_number)]
Count = Annotated[int, Field(ge=0, le=MOST_BYTES), BeforeValidator(as_number)]


class TrainingFacts(BaseModel):
    """What a file or a script states of a training; what it does not state is None."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    base_model: Name | None = Field(default=None, max_length=200)
    dataset: Name | None = Field(default=None, max_length=200)
    """The training data, with its version."""
    learning_rate: Annotated[LearningRate, BeforeValidator(as_number)] | None = None
    device: Name | None = Field(default=None, max_length=200)
    precision: Name | None = Field(default=None, max_length=10)
    versions: dict[Key, Line] = Field(default_factory=dict)
    """Versions of libraries: `{"torch": "2.13.0", "peft": "0.19.2"}`."""
    steps: Count | None = None
    tokens: Count | None = None
    """Trained on."""
    train_seconds: Seconds | None = None
    peak_bytes: Bytes | None = None
    memory_measure: Name | None = Field(default=None, max_length=120)
    """How the peak was measured: `reserved by the allocator`. Only peaks with the same measure are compared."""
    trainable_parameters: Count | None = None
    total_parameters: Count | None = None
    file_bytes: Bytes | None = None
    """Bytes of the saved adapter or model."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """How it was trained, by name; objects within objects are flattened to `optimizer.lr`."""

    @field_validator("settings")
    @classmethod
    def _settings_are_flat(cls, settings: dict[str, Any]) -> dict[str, Any]:
        flat = flattened(settings)
        if len(flat) > MOST_SETTINGS:
            raise invalid_field(
                "",
                _("The result has %(settings)s settings", settings=len(flat)),
                _("Keep at most %(most)s: those that differ", most=MOST_SETTINGS),
            )
        return flat

    @model_validator(mode="after")
    def _parameters_fit_together(self) -> "TrainingFacts":
        trains, total = self.trainable_parameters, self.total_parameters
        if trains is not None and total is not None and trains > total:
            raise invalid_field(
                "trainable_parameters",
                _("%(trains)s of %(total)s parameters cannot be trainable", trains=trains, total=total),
                _("Use at most the total"),
            )
        return self

    @property
    def libraries(self) -> str:
        """`torch 2.13.0, transformers 5.1.0`, as in Vezna's own runs."""
        return ", ".join(f"{name} {self.versions[name]}" for name in ("torch", "transformers") if name in self.versions)


def check_method(method: str | None, family: Family | None) -> None:
    """A method of Vezna has its own family; another one needs a family. Raises a field error."""
    if method in METHODS and family not in (None, METHODS[method].family):
        raise invalid_field(
            "family",
            _(
                "%(method)s belongs to the family %(family)s",
                method=method,
                family=METHODS[method].family,
            ),
            _("Leave family out"),
        )
    if method not in METHODS and family is None:
        known = ", ".join(METHODS)
        raise invalid_field(
            "method",
            _("The method is unknown"),
            _("Choose from: %(known)s; or add the family of another method", known=known),
        )


def flattened(settings: Mapping[str, Any], path: str = "", depth: int = 1) -> dict[str, Setting]:
    """Objects within objects by their path, `optimizer.lr`; lists as a text, `q_proj, v_proj`. Raises a field error."""
    flat: dict[str, Setting] = {}
    for name, value in settings.items():
        where = f"{path}.{name}" if path else name
        if not name.strip() or not name.isprintable() or len(where) > 200:
            raise invalid_field(
                where[:60], _("The name of a setting is not printable or too long"), _("Use a short, printable name")
            )
        if isinstance(value, Mapping):
            if depth >= LONGEST_NESTING:
                raise invalid_field(
                    where,
                    _("Objects are nested too deeply"),
                    _("Nest at most %(levels)s levels", levels=LONGEST_NESTING),
                )
            within = flattened(value, where, depth + 1)
            if twice := next((path for path in within if path in flat), None):
                raise _twice(twice)
            flat |= within
        elif where in flat:
            raise _twice(where)
        elif isinstance(value, list):
            flat[where] = _text(where, _listed(where, value))
        elif isinstance(value, str):
            flat[where] = _text(where, value)
        elif value is None or isinstance(value, bool | int | float):
            _countable(where, value)
            flat[where] = value
        else:
            raise invalid_field(
                where,
                _("A setting cannot be of type %(type)s", type=type(value).__name__),
                _("Use a string, a number, true, false or null"),
            )
    return flat


def _twice(where: str) -> PydanticCustomError:
    return invalid_field(
        where, _("The setting is given twice: in an object, and with dots in its name"), _("Leave one of them out")
    )


def _listed(where: str, values: list[Any]) -> str:
    try:
        return ", ".join(map(str, values))
    except RecursionError:
        raise invalid_field(where, _("Lists are nested too deeply"), _("Use a list of plain values")) from None


def _text(where: str, value: str) -> str:
    """One line of at most 500 characters."""
    line = " ".join(value.split())
    if not line.isprintable():
        raise invalid_field(where, _("The value contains a character that cannot be printed"), _("Remove it"))
    return line if len(line) <= 500 else f"{line[:499]}…"
