"""The model registry: names with numbered versions, each an export that is a candidate, the champion, or retired.

candidate ⇄ champion      a name has at most one champion; another one that is promoted retires it
    ↓ ↑        ↓ ↑
      retired             its export may be deleted; while it is there, the version can be brought back
"""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.errors import FieldError
from app.domain.messages import _
from app.domain.validation import Line, invalid_field

MAX_NAME_LENGTH = 100
MAX_REASON_LENGTH = 1000
PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


def _addressable(name: str) -> str:
    if not re.fullmatch(PATTERN, name) or name.endswith("\n"):
        raise invalid_field(
            "",
            _("The name must begin with a letter or a digit, and stands in addresses"),
            _("Use only letters, digits and the characters . _ -"),
        )
    return name


RegistryName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME_LENGTH),
    AfterValidator(_addressable),
    Field(json_schema_extra={"pattern": PATTERN}),
]
"""A name that stands in addresses as it is."""
Reason = Annotated[Line, Field(max_length=MAX_REASON_LENGTH)]


class Stage(StrEnum):
    """What a version is for."""

    CANDIDATE = "candidate"
    """For tests."""
    CHAMPION = "champion"
    """The one that production uses."""
    RETIRED = "retired"
    """No longer used."""


class Registration(BaseModel):
    """An export that becomes the next version of a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    export: Annotated[int, Field(ge=1)]
    """Id of an export that has succeeded."""
    stage: Stage = Stage.CANDIDATE
    reason: Reason = ""
    """Required unless the export has passed its gate."""
    revision: int | None = None
    """That of the name as the client has read it; 409 if it has changed since. 0: the name is new. Null: any."""


class Promotion(BaseModel):
    """A version that gets another stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Stage
    reason: Reason = ""
    """Required unless the export has passed its gate, or the version is retired."""
    revision: int | None = None
    """That of the name as the client has read it; 409 if it has changed since. Null: any."""


def missing_reason(stage: Stage, gate: GateOutcome, reason: str) -> FieldError | None:
    """What speaks against a stage without a recorded reason, or None."""
    if reason or stage is Stage.RETIRED or gate is GateOutcome.PASS:
        return None
    return FieldError(
        "reason",
        _("The gate of this export is %(gate)s, so it needs a reason", gate=gate.value),
        _("Write why it may be used all the same, or choose an export that passes"),
    )
