"""Pushing an export to the Hugging Face hub: what a request names."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.errors import FieldError
from app.domain.messages import _
from app.domain.validation import invalid_field
from app.features.shipping.rules.registry import Reason

MAX_REPOSITORY_LENGTH = 200
CARD_FILE = "README.md"
"""Where the hub expects a model card."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def _named(repository: str) -> str:
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise invalid_field(
            "repository",
            _("%(repository)r is not the id of a repository on the hub", repository=repository),
            _("Use owner/name, with letters, digits and the characters . _ -"),
        )
    return repository


Repository = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=MAX_REPOSITORY_LENGTH), AfterValidator(_named)
]
"""`owner/name` on the hub."""


class HubPush(BaseModel):
    """A repository that receives an export."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: Repository
    """`owner/name`; it is created if it does not exist."""
    private: bool = True
    """Only its owner sees it. A public repository is refused while this is true."""
    reason: Reason = ""
    """Required unless the export has passed its gate; the model card shows it."""


def namespace_refusal(repository: str, namespaces: Sequence[str], *, login: bool) -> FieldError | None:
    """Why nothing may be pushed to a repository, or None. `login`: users differ, and share the worker's token."""
    if not namespaces and login:
        what = _("Pushes are off: this installation has not named where its token may write")
        return FieldError("repository", what, _("Ask an operator to set VEZNA_HUB_NAMESPACES"))
    owner = repository.partition("/")[0]
    if namespaces and owner.lower() not in {name.lower() for name in namespaces}:
        what = _("This installation does not push to repositories of %(owner)s", owner=owner)
        names = ", ".join(namespaces)
        remedy = _("Choose one of %(names)s, or ask an operator to add it to VEZNA_HUB_NAMESPACES", names=names)
        return FieldError("repository", what, remedy)
    return None


def missing_reason(gate: GateOutcome, reason: str) -> FieldError | None:
    """What speaks against pushing an export without a recorded reason, or None."""
    if reason or gate is GateOutcome.PASS:
        return None
    return FieldError(
        "reason",
        _("The gate of this export is %(gate)s, so it needs a reason", gate=gate.value),
        _("Write why it may be published all the same, or choose an export that passes"),
    )
