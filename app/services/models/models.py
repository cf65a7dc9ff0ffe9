"""Base models: register them under a name, have a worker inspect them, and record the result."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from app.broker.queue import INSPECT, Doorbell
from app.domain.accounts.audit import Action
from app.domain.errors import Conflict
from app.domain.messages import _
from app.domain.models.base_model import FACTS_VERSION, ModelFacts, ModelRegistration
from app.services.models.roots import below_a_root
from app.services.ownership import ownership
from app.services.users import audit
from app.store.database.messages import as_stored
from app.store.database.ownership import require_change
from app.store.database.session import after_commit
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow
from app.store.workers import clock

INSPECTION_SECONDS = 120
AGAIN_SECONDS = 3600
"""Time after which a model with facts of an older inspection is inspected again."""


def register(session: Session, bell: Doorbell, registration: ModelRegistration, roots: Sequence[Path]) -> BaseModelRow:
    """Make a base model known and ask a worker to inspect it. The same registration twice is one.

    Raises Invalid for a directory outside the allowed roots, Conflict if the name stands for something else, or for a
    model that the team sees where it is to be private.
    """
    location = _allowed(session, registration, roots)
    known = base_models.by_name(session, registration.name)
    if known is not None:
        if (known.source, known.location) != (registration.source, location):
            raise Conflict(
                _(
                    "The base model %(name)r already exists, from %(source)s. Choose another name.",
                    name=registration.name,
                    source=known.source,
                )
            )
        if registration.revision not in ("", known.revision, known.pinned):
            at = known.revision or known.pinned or _("its newest revision")
            raise Conflict(
                _(
                    "The base model %(name)r already exists, at %(revision)s. Choose another name.",
                    name=registration.name,
                    revision=at,
                )
            )
        ownership.refuse_visible(session, known, _("The base model %(name)r already exists", name=known.name))
        _again(session, bell, known)
        return known
    if base_models.is_taken(session, registration.name):
        raise Conflict(_("The name %(name)r is taken. Choose another name.", name=registration.name))
    row = BaseModelRow(
        name=registration.name, source=registration.source, location=location, revision=registration.revision
    )
    session.add(row)
    session.flush()
    audit.record(session, Action.REGISTER_MODEL, row.name, source=row.source, location=location)
    after_commit(session, lambda: bell.ring(INSPECT, row.id))
    return row


def inspect_again(session: Session, bell: Doorbell, name: str) -> None:
    """Have a worker inspect a base model again whose inspection failed. Raises NotFound, and Forbidden for a user who
    may not change it."""
    row = base_models.get(session, name)
    require_change(session, row)
    _again(session, bell, row)


def _again(session: Session, bell: Doorbell, row: BaseModelRow) -> None:
    if row.status == "failed":
        row.status, row.inspection_started_at = "inspecting", None
        after_commit(session, lambda: bell.ring(INSPECT, row.id))


SAMPLE = "sample:"
"""Begins the reference to a packaged sample, wherever a machine has it; no hub id and no absolute path begins so."""


def reference_of(source: str, location: str) -> str:
    """A base model's location, in the form that web and workers share."""
    return f"{SAMPLE}{location}" if source == "sample" else location


def begin_inspection(session: Session, model_id: int) -> BaseModelRow | None:
    """Claim a base model's inspection. None if it is inspected already, or is being inspected elsewhere."""
    at = clock.now(session)
    if not base_models.begin_inspection(session, model_id, at, _due(at)):
        return None
    return base_models.by_id(session, model_id)


def give_back_inspection(session: Session, model_id: int) -> None:
    """Let another worker inspect a base model whose worker shuts down."""
    row = base_models.by_id(session, model_id)
    if row is not None:
        row.inspection_started_at = None


def to_inspect(session: Session, at: datetime) -> list[int]:
    """Base models that wait for an inspection, or have facts of an older version of it."""
    return base_models.uninspected(session, _due(at))


def _due(at: datetime) -> base_models.Due:
    return base_models.Due(
        FACTS_VERSION, at - timedelta(seconds=INSPECTION_SECONDS), at - timedelta(seconds=AGAIN_SECONDS)
    )


def inspected(session: Session, model_id: int, facts: ModelFacts) -> None:
    """Record the result of an inspection. Facts of another revision are not overwritten: the runs of the model used
    those weights."""
    row = base_models.by_id(session, model_id)
    known = (row.facts_json or {}).get("revision") if row else None
    if row is None or (known and known != facts.revision):
        return
    row.facts_json = facts.model_dump(mode="json")
    row.status, row.message = "ready", ""


def uninspectable(session: Session, model_id: int, message: str) -> None:
    """Record why an inspection failed; the facts of an older one stay."""
    row = base_models.by_id(session, model_id)
    if row is not None and not row.facts_json:
        row.status, row.message = "failed", as_stored(message)


def _allowed(session: Session, registration: ModelRegistration, roots: Sequence[Path]) -> str:
    if registration.source in ("hub", "sample"):
        return registration.location  # checked by the registration itself
    return str(below_a_root(session, registration.location, roots, "VEZNA_MODEL_ROOTS"))
