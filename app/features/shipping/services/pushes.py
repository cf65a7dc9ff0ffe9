"""Pushes of exports to the Hugging Face hub: submit, claim, report, cancel.

What is pushed is fixed when it is submitted: the model card that was shown, and the receipt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.accounts.audit import Action
from app.domain.accounts.policy import Identity, Scope
from app.domain.errors import Conflict, FieldError, Invalid
from app.domain.messages import _
from app.domain.models.exports import ExportedFile
from app.domain.models.hub_access import HubAccess
from app.features.shipping.queries import exports as model_exports
from app.features.shipping.rules.push import HubPush, missing_reason, namespace_refusal
from app.features.shipping.services import receipts
from app.features.shipping.services.signing import sign, signing_key
from app.features.shipping.services.work import EXPORTS, PUSHES
from app.features.shipping.tables import HubPushRow
from app.services.ownership.ownership import lost_access
from app.services.ownership.vault import Vault
from app.services.users import audit
from app.services.users import hub_tokens as token_service
from app.services.workers.work import Claimed
from app.settings import Settings
from app.store.models import hub_tokens
from app.store.runs import queries as runs


@dataclass(frozen=True)
class PushClaim(Claimed):
    """A push that this worker has."""

    run_id: int
    repository: str
    private: bool
    card: str
    receipt: str
    title: str
    """Of the commit."""
    files: Sequence[ExportedFile]
    prefix: str
    """Of the files in the files store."""
    replaced: frozenset[str] | None
    """Names of the files that earlier pushes have put into the repository; None if there were none."""
    user_id: int | None
    """Its user; None without login."""
    own_token: bool
    """Only the user's own hub token may push it."""


def submit(
    session: Session,
    bell: Doorbell,
    settings: Settings,
    export_id: int,
    new: HubPush,
    card: str,
    user: Identity,
) -> HubPushRow:
    """Queue a push of an export with a model card.

    Raises NotFound; Conflict for an export that has not succeeded, or is being pushed there; Invalid for one that has
    not passed its gate, without a reason, for a repository below no namespace of the settings, and for a public one
    without the scope admin; Unavailable without a key that signs the receipt.
    """
    runs.lock(session, [EXPORTS.get(session, export_id).run_id])
    export = EXPORTS.get(session, export_id)
    if export.gate is None:
        raise Conflict(_("Export %(id)s is %(status)s, so it has no files.", id=export_id, status=export.status))
    refused = [
        missing_reason(export.gate.outcome, new.reason),
        namespace_refusal(new.repository, settings.hub_namespaces, login=user.user_id is not None),
        None if new.private or user.may(Scope.ADMIN) else _public(user),
    ]
    if found := [error for error in refused if error]:
        raise Invalid.of(found)
    for earlier in PUSHES.of(session, export_id):
        if earlier.repository == new.repository and earlier.live:
            raise Conflict(_("Export %(id)s is being pushed to %(name)s already.", id=export_id, name=new.repository))
    row = HubPushRow(
        export_id=export_id,
        repository=new.repository,
        private=new.private,
        reason=new.reason,
        user_id=user.user_id,
        own_token=user.user_id is not None and hub_tokens.of_user(session, user.user_id) is not None,
        card=card,
        receipt=sign(signing_key(settings), receipts.of_export(session, export_id)).encoded.decode(),
    )
    PUSHES.submit(session, bell, row)
    audit.record(
        session, Action.PUSH_EXPORT, export_id, run=export.run_id, repository=new.repository, reason=new.reason
    )
    return row


def begin(session: Session, push_id: int) -> PushClaim | None:
    """Claim a push. None if it has ended, or a live worker has it."""
    if (row := PUSHES.claim(session, push_id)) is None:
        return None
    export = EXPORTS.get(session, row.export_id)
    return PushClaim(
        id=row.id,
        epoch=row.epoch,
        run_id=export.run_id,
        repository=row.repository,
        private=row.private,
        card=row.card,
        receipt=row.receipt,
        title=f"Add run {export.run_id} as {export.format}",
        files=export.files,
        prefix=export.prefix,
        replaced=model_exports.files_in(session, row.repository),
        user_id=row.user_id,
        own_token=row.own_token,
    )


def access_of(session: Session, vault: Vault, claim: PushClaim) -> HubAccess | None:
    """The access of the push's user to the hub; None: the worker's. Raises Conflict if the user can no longer push or
    see the run, or has removed the token that the push was to use; Unavailable without the key of stored secrets."""
    if claim.user_id is None:
        return None
    needed = Scope.RUN if claim.private else Scope.ADMIN
    if lost := lost_access(session, claim.user_id, runs.get(session, claim.run_id), needed):
        raise Conflict(lost)
    access = token_service.access_of(session, vault, claim.user_id)
    if access is None and claim.own_token:
        raise Conflict(_("The hub token for this push was removed. Store one, and push again."))
    return access


def succeeded(session: Session, claim: PushClaim, commit: str, url: str) -> bool:
    """Write where the export is now. False as `progress`."""
    return PUSHES.complete(session, claim, commit=commit, url=url)


def _public(user: Identity) -> FieldError:
    what = _(
        "A public repository needs the scope admin, which this request lacks (role %(role)s)", role=user.role.value
    )
    return FieldError("private", what, _("Push it as private, or ask an admin to push it"))
