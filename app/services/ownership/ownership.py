"""Owners and visibility: read them, change them, and hold that what a study uses is visible to all who see the study.
The rules are in `app.domain.accounts.ownership`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator
from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.accounts.ownership import Viewer, Visibility, hides
from app.domain.accounts.policy import SCOPES, Role, Scope
from app.domain.accounts.users import Email
from app.domain.data.versions import reference_in
from app.domain.errors import Conflict, FieldError, Invalid, NotFound
from app.domain.messages import Message, _
from app.domain.runs.spec import RunSpec
from app.domain.studies.spec import StudySpec
from app.domain.validation import invalid_field
from app.services.hooks import all_hooks
from app.services.users import audit, limits
from app.store.data import queries as datasets
from app.store.data import uploads
from app.store.database import owners as ownership
from app.store.database.owned import Owned
from app.store.database.ownership import owner_name, require_change, viewer_of
from app.store.models import queries as base_models
from app.store.runs import queries as runs
from app.store.studies import collections
from app.store.studies import queries as studies
from app.store.tables import BaseModelRow, CollectionRow, DatasetRow, RunRow, StudyRow, UploadRow
from app.store.users import queries as users
from app.store.workers import usage

Kind = Literal["studies", "runs", "collections", "datasets", "models", "uploads"]
"""As in addresses."""


class OwnershipChange(BaseModel):
    """What is to change: the visibility, the owner, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"example": {"visibility": "private"}})

    visibility: Visibility | None = None
    owner: Email | None = None
    """The e-mail address of the new owner."""

    @model_validator(mode="after")
    def _something(self) -> "OwnershipChange":
        if self.visibility is None and self.owner is None:
            raise invalid_field("", _("Nothing is to change"), _("Give visibility, owner, or both"))
        return self


@dataclass(frozen=True)
class Ownership:
    """The owner of an object, and who sees it."""

    kind: Kind
    key: str
    """Its id, or the name of a dataset or base model."""
    owner: str
    """Name or e-mail address; empty without an owner."""
    visibility: Visibility
    may_change: bool
    belongs_to: str = ""
    """The address of what decides instead: of a run's study, for example."""


def of(session: Session, kind: Kind, key: str) -> Ownership:
    """The owner and visibility of an object. Raises NotFound."""
    row = _rows(session, kind, key)[0]
    viewer = viewer_of(session)
    return Ownership(
        kind,
        key,
        owner_name(session, row.owner_id),
        row.visibility,
        may_change=viewer is None or viewer.may_change(row.owner_id),
        belongs_to=_parent(session, row),
    )


def change(session: Session, kind: Kind, key: str, changes: OwnershipChange) -> Ownership:
    """Change the owner or the visibility of an object, with what belongs to it. Raises NotFound; Forbidden if it is
    another user's; Conflict if something that uses it, or that it uses, would be hidden from a user, or the new owner
    has no device time or room left for it; Invalid for an unknown owner, and for an object without one."""
    rows = _rows(session, kind, key)
    require_change(session, rows[0])
    ownership.hold(session, rows, change=True)
    require_change(session, rows[0])
    if parent := _parent(session, rows[0]):
        raise Conflict(_("This belongs to %(parent)s, which has the owner and the visibility.", parent=parent))
    owner_id = _new_owner(session, changes.owner) if changes.owner else rows[0].owner_id
    visibility = changes.visibility or rows[0].visibility
    if owner_id is None and visibility is Visibility.PRIVATE:
        raise Invalid.field(
            "visibility", _("This has no owner, so it cannot be private"), _("Give it an owner: an admin can do that")
        )
    private_to = owner_id if visibility is Visibility.PRIVATE else None
    _require_no_gap(session, rows, private_to)
    viewer = viewer_of(session)
    if owner_id != rows[0].owner_id and viewer is not None and not viewer.sees_all and _any_live(session, rows):
        raise Conflict(_("Runs of this wait or run, and their owner's limits hold. Give it away when they have ended."))
    if owner_id is not None:  # what the user has committed stays
        usage.lock_account(session, owner_id)
    with limits.given_to(session, owner_id):
        _carry(session, rows, owner_id, visibility)
        session.flush()
    subject = f"{kind} {key}"
    audit.record(session, Action.CHANGE_OWNERSHIP, subject, visibility=changes.visibility, owner=changes.owner)
    may_change = viewer is None or viewer.may_change(owner_id)
    return Ownership(kind, key, owner_name(session, owner_id), visibility, may_change)


def _any_live(session: Session, rows: Sequence[Owned]) -> bool:
    """Whether runs, or runs of studies, wait or run, or will be queued by tuning; the rows are held."""

    def live(row: Owned) -> bool:
        if isinstance(row, StudyRow):
            return bool(row.tuning) or runs.any_live(session, row.id)
        return isinstance(row, RunRow) and row.status in runs.LIVE

    return any(map(live, rows))


def require_uses(session: Session, spec: RunSpec | StudySpec, model: BaseModelRow, dataset: DatasetRow) -> None:
    """Raise Invalid if what a new study or run uses would be hidden from a user who sees the study or run."""
    viewer = viewer_of(session)
    if viewer is None:
        return
    private_to = viewer.user_id if viewer.creates is Visibility.PRIVATE else None
    used: list[tuple[str, BaseModelRow | DatasetRow]] = [("base_model", model), ("dataset", dataset)]
    used += [("general_text", row) for row in _general(session, spec)]
    ownership.hold(session, [row for _path, row in used])
    errors = [
        FieldError(path, _hidden(row), _("Make this private too, or that visible to the team"))
        for path, row in used
        if hides(row.private_to, private_to)
    ]
    if errors:
        raise Invalid.of(errors)


def refuse_visible(session: Session, row: Owned, what: Message) -> None:
    """Raise Conflict if a session that creates in private is to get an object that the team sees. `what`: a sentence
    that says that it exists."""
    viewer = viewer_of(session)
    if viewer is not None and viewer.creates is Visibility.PRIVATE and row.visibility is Visibility.TEAM:
        remedy = _("It is visible to the team. Use it, or make it private on its page first")
        raise Conflict(_("%(what)s. %(remedy)s.", what=what, remedy=remedy))


def require_same(upload: UploadRow, dataset: DatasetRow) -> None:
    """Raise Conflict if a dataset is to get a version of an upload with another owner or visibility."""
    if (upload.owner_id, upload.private_to) != (dataset.owner_id, dataset.private_to):
        raise Conflict(
            _(
                "Dataset %(name)s is %(visibility)s and upload %(upload)s is not, or has another owner. Change one of "
                "them first.",
                name=dataset.name,
                visibility=dataset.visibility.value,
                upload=upload.id,
            )
        )


def require_team(session: Session, run_id: int) -> None:
    """Raise Invalid if the team does not see a run, whose export is to be in the registry."""
    run = runs.get(session, run_id)
    if run.study_id is not None:  # a change of the study changes its runs after that
        ownership.hold(session, [studies.get(session, run.study_id)], change=True)
    ownership.hold(session, [run], change=True)
    if run.private_to is not None:
        what = _("Run %(run)s is private, and all users see the registry", run=run_id)
        raise Invalid.field("export", what, _("Make the run or its study visible to the team"))


def lost_access(session: Session, user_id: int | None, row: Owned, needed: Scope = Scope.RUN) -> Message | None:
    """Why work on an object that a user has requested may not begin any more; None if it may, and without login."""
    if user_id is None:
        return None
    user = users.find(session, user_id)
    if user is None or user.disabled or needed not in SCOPES[user.role]:
        return _("The requesting user is disabled, or has lost the role that this needs.")
    if not Viewer(user.id, sees_all=user.role is Role.ADMIN).may_see(row.private_to):
        return _("This is now private to another user. Only its owner and admins can request it.")
    return None


def transfer_all(session: Session, owner_id: int, to_id: int) -> int:
    """Give all that a user owns to another. Returns the number of objects. Raises NotFound, Conflict, and OverQuota if
    the other has no device time or room left for it."""
    if owner_id == to_id:
        raise Conflict(_("Choose another user."))
    users.get(session, owner_id)
    if users.get(session, to_id).disabled:
        raise Conflict(_("The user is disabled. Choose another one."))
    with limits.given_to(session, to_id):
        changed = ownership.transfer_all(session, owner_id, to_id)
        usage.lock_account(session, to_id)
    audit.record(session, Action.TRANSFER_ALL, owner_id, to=to_id, objects=changed)
    return changed


def _rows(session: Session, kind: Kind, key: str) -> Sequence[Owned]:
    """The object; of a dataset all versions, the newest first. Raises NotFound."""
    match kind:
        case "models":
            return [base_models.get(session, key)]
        case "datasets":
            return datasets.versions(session, datasets.find(session, key).name)
        case "runs":
            return [runs.get(session, _id(key))]
        case "studies":
            return [studies.get(session, _id(key))]
        case "uploads":
            return [uploads.get(session, _id(key))]
        case "collections":
            return [collections.get(session, _id(key))]


def _id(key: str) -> int:
    if not (key.isascii() and key.isdecimal()):
        raise NotFound(_("%(key)r is no id.", key=key))
    return int(key)


def _parent(session: Session, row: Owned) -> str:
    if isinstance(row, RunRow) and row.study_id is not None:
        return f"/studies/{row.study_id}"
    if isinstance(row, UploadRow) and (versions := datasets.of_upload(session, row.id)):
        return f"/data/{versions[0].name}"
    return ""


def _new_owner(session: Session, email: str) -> int:
    user = users.by_email(session, email)
    if user is None or user.disabled:
        what = _("There is no user %(email)s, or the user is disabled", email=email)
        raise Invalid.field("owner", what, _("Give the e-mail address of another user"))
    return user.id


def _general(session: Session, spec: RunSpec | StudySpec) -> list[DatasetRow]:
    """The versions of the text for forgetting."""
    return datasets.versions(session, reference_in(spec.general_text).name) if spec.general_text else []


def _hidden(row: Owned) -> Message:
    name = row.name if isinstance(row, BaseModelRow | DatasetRow) else ""
    return _("%(name)s is private, and others would see what uses it", name=name)


def _require_no_gap(session: Session, rows: Sequence[Owned], private_to: int | None) -> None:
    for row in rows:
        used: list[Owned | None] = []
        if isinstance(row, RunRow) and row.imported:
            raise Conflict(_("Run %(run)s was imported. Change its collection.", run=row.id))
        if isinstance(row, RunRow | StudyRow):
            used = [base_models.by_id(session, row.base_model_id), datasets.by_id(session, row.dataset_id)]
            used += _general(session, row.spec)
            ownership.hold(session, used)
        if gap := next((other for other in used if other and hides(other.private_to, private_to)), None):
            raise Conflict(_("%(what)s. Change that first.", what=_hidden(gap)))
    of_study = {row.id for row in rows if isinstance(row, StudyRow)}
    of_run = {row.id for row in rows if isinstance(row, RunRow)}
    if private_to is not None:
        for hook in all_hooks():
            if why := hook.keeps_visible(session, of_study, of_run):
                raise Conflict(why)
    if private_to is not None and ownership.users_hidden_from(session, rows, private_to):
        raise Conflict(
            _(
                "Studies or runs that others see use this, or that belong to others. It can be private once these are "
                "private to the same owner, or deleted."
            )
        )


def _carry(session: Session, rows: Sequence[Owned], owner_id: int | None, visibility: Visibility) -> None:
    """Change rows and what belongs to them: what belongs first, since the session may not see it afterwards."""
    private_to = owner_id if visibility is Visibility.PRIVATE else None
    for row in rows:
        if isinstance(row, RunRow):
            ownership.give_runs(session, RunRow.id == row.id, owner_id, private_to)
        if isinstance(row, StudyRow):
            ownership.give_runs(session, RunRow.study_id == row.id, owner_id, private_to)
        if isinstance(row, CollectionRow):
            ownership.give_runs(session, RunRow.collection_id == row.id, owner_id, private_to)
        if isinstance(row, DatasetRow) and row.upload_id is not None:
            upload = uploads.get(session, row.upload_id, lock=True)
            others = {version.name for version in datasets.of_upload(session, upload.id)} - {row.name}
            if others and (upload.owner_id, upload.private_to) != (owner_id, private_to):
                raise Conflict(
                    _(
                        "Upload %(upload)s is also that of %(name)s. Upload the file again for another owner or "
                        "visibility.",
                        upload=upload.id,
                        name=min(others),
                    )
                )
            upload.give(owner_id, visibility)
    for row in rows:
        row.give(owner_id, visibility)
