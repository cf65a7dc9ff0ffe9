"""Baselines of studies: requested when a study is submitted, read beside its runs."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.comparison.baselines import StoredBaseline
from app.domain.data.baselines import BASELINES, BaselineRequest, baselines_of
from app.domain.data.baselines import not_applicable as not_applicable_baselines
from app.domain.studies.spec import StudySpec
from app.services.resources import estimates
from app.services.resources.requests import model_fields
from app.store.resources import estimates as estimate_rows
from app.store.studies import queries as studies
from app.store.tables import BaseModelRow, DatasetRow, EstimateRow, StudyRow
from app.store.users import queries as users


def requests(
    spec: StudySpec, model: BaseModelRow, dataset: DatasetRow, owner_id: int | None = None
) -> list[BaselineRequest]:
    """The baselines of a user's study, in the order in which they are shown. Studies on the same rows share them. They
    learn from the rows that the reference arm trains on."""
    facts = dataset.facts
    fraction = spec.training_of(spec.arm(spec.reference_arm)).train_fraction
    return [
        BaselineRequest(
            kind=kind,
            dataset_file=dataset.file,
            dataset_format=facts.format,
            dataset_hash=dataset.content_hash,
            labels=facts.labels,
            train_fraction=fraction,
            max_length=spec.training.max_length if BASELINES[kind].uses_model else 0,
            max_new_tokens=spec.training.max_new_tokens if kind == "few-shot" else 0,
            **(model_fields(model, owner_id) if BASELINES[kind].uses_model else {}),
        )
        for kind in baselines_of(spec.task, facts.format, spec.verdict_metric)
    ]


def request(
    session: Session, bell: Doorbell, study: StudyRow, spec: StudySpec, model: BaseModelRow, dataset: DatasetRow
) -> None:
    """Have a worker compute the baselines that are not known yet."""
    estimates.all_wanted(session, bell, requests(spec, model, dataset, study.owner_id))


def of_new_owner(session: Session, bell: Doorbell, email: str | None) -> None:
    """After studies were given to a user: have those baselines computed anew that are one user's, since the base model
    opens to a hub token only."""
    user = users.by_email(session, email) if email else None
    for study, model, dataset in studies.with_what_they_use(session, user.id) if user else ():
        if model.restricted:
            request(session, bell, study, study.spec, model, dataset)


def stored(session: Session, requested: Sequence[Sequence[BaselineRequest]]) -> list[list[StoredBaseline]]:
    """What is known of the baselines of several studies, in one query; those never requested are left out."""
    rows = estimate_rows.by_keys(session, {request.key for of_study in requested for request in of_study})
    return [[_stored(rows[request.key]) for request in of_study if request.key in rows] for of_study in requested]


def not_applicable(spec: StudySpec, dataset: DatasetRow) -> list[StoredBaseline]:
    """Baselines that do not apply to a study, with the reason."""
    reasons = not_applicable_baselines(spec.task, dataset.facts.format, spec.verdict_metric)
    return [StoredBaseline(kind, "not_applicable", reason) for kind, reason in reasons.items()]


def _stored(row: EstimateRow) -> StoredBaseline:
    request = row.request
    assert isinstance(request, BaselineRequest)  # noqa: S101 it was found by the key of one
    return StoredBaseline(request.kind, row.state, row.message, row.baseline)
