"""The study of a class: chosen by its teacher, and run by each learner with one seed (`class_pool` pools them)."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.accounts.audit import Action
from app.domain.errors import Conflict, Invalid
from app.domain.messages import _
from app.domain.studies.spec import StudySpec
from app.features.lab.queries import classes as rows
from app.features.lab.rules.classes import ClassStudy
from app.features.lab.services import classes
from app.features.lab.services import studies as lab_studies
from app.features.lab.tables import LabClassSeedRow, LabClassStudyRow
from app.services.models.compatibility import Compatible, check
from app.services.runs import submission
from app.services.studies import defaults as study_defaults
from app.services.studies import studies as study_service
from app.services.users import audit
from app.settings import Settings
from app.store.database.session import Database
from app.store.studies import queries as studies
from app.store.tables import StudyRow

MOST_STARTED = 500
"""Seeds of a class, withdrawn ones included."""
NAME = 100
"""Characters of the study's name that a learner's study keeps."""
Kept = TypeVar("Kept")


def choose(session: Session, class_id: int, chosen: ClassStudy) -> LabClassStudyRow:
    """Choose the study of a class. Raises NotFound; Conflict once a learner has started a seed; Invalid for a study
    that cannot be pooled."""
    classes.taught(session, class_id, lock=True)
    if (old := rows.study(session, class_id, lock=True)) is not None and old.next_seed:
        raise Conflict(_("A learner has already started a seed, so the study of the class is fixed."))
    if (chosen.study_id is None) == (not chosen.plan):
        raise Invalid.field("study_id", _("One study is needed"), _("Choose a study or a plan of the Lab"))
    spec = lab_studies.spec(session, chosen.plan) if chosen.plan else _spec_of(session, chosen.study_id or 0)
    model, dataset = check(session, spec)
    spec = study_defaults.with_default_rates(spec, model)
    spec = spec.model_copy(update={"dataset": dataset.reference})  # the seeds of a class are of one version of its data
    values = {
        "spec_json": spec.model_dump(mode="json"),
        "base_model_id": model.id,
        "dataset_id": dataset.id,
        "planned_seeds": chosen.planned_seeds,
    }
    row = old or LabClassStudyRow(class_id=class_id)
    for name, value in values.items():
        setattr(row, name, value)
    session.add(row)
    session.flush()
    audit.record(session, Action.CHOOSE_CLASS_STUDY, class_id, study=spec.name, planned_seeds=chosen.planned_seeds)
    return row


def candidates(session: Session, limit: int = 20) -> list[StudyRow]:
    """Studies that a class can run, the newest first."""
    found = studies.page(session, limit=limit).rows
    return [row for row in found if row.private_to is None and _problem(row.spec) is None]


def _spec_of(session: Session, study_id: int) -> StudySpec:
    row = studies.get(session, study_id)
    if row.private_to is not None:
        what = _("Study %(study)s is private", study=study_id)
        raise Invalid.field("study_id", what, _("Make it visible to the team, or choose another study"))
    if problem := _problem(row.spec):
        raise problem
    return study_service.as_begun(session, row, row.spec)


def _problem(spec: StudySpec) -> Invalid | None:
    """Why the seeds of different learners would not be seeds of one study."""
    if spec.tuning.rounds:
        what = _("The study searches hyperparameters, so each learner's runs would have other settings")
        return Invalid.field("study_id", what, _("Choose a study without tuning"))
    if len(spec.arms) < 2:
        return Invalid.field("study_id", _("The study has one arm"), _("Choose a study that compares two or more"))
    return None


def start(
    db: Database,
    bell: Doorbell,
    settings: Settings,
    session: Session,
    code: str,
    learner: str,
    keep: Callable[[Session, int], Kept],
) -> Kept:
    """Queue a learner's seed as a study of the learner's own; `keep` gets its id in the same transaction. Raises
    NotFound, Conflict for a learner who is not in the class or has a seed, and Invalid."""
    taught = rows.by_code(session, code)
    chosen = rows.study(session, taught.id)
    if chosen is None:
        raise Conflict(_("The teacher has not chosen a study yet."))
    spec = chosen.spec

    def accept(writing: Session, compatible: Compatible) -> Kept:
        rows.by_code(writing, code, lock=True)  # so that the learner does not leave meanwhile
        current = rows.study(writing, taught.id)
        if current is None or current.spec_json != chosen.spec_json:
            raise Conflict(_("The teacher has just chosen another study. Reload the page."))
        seed = rows.take_seed(writing, taught.id)  # locks the study of the class until the transaction ends
        if seed is None or rows.member(writing, taught.id, learner) is None:
            raise Conflict(_("You are not in this class. Join it first."))
        if rows.seed_of(writing, taught.id, learner) is not None:
            raise Conflict(_("You have already started your seed."))
        model, dataset = compatible
        if (model.id, dataset.id) != (chosen.base_model_id, chosen.dataset_id):
            raise Conflict(_("The base model or the data of the class's study has been replaced. Tell your teacher."))
        if seed >= MOST_STARTED:
            raise Conflict(_("The class has started %(most)s seeds, the maximum.", most=MOST_STARTED))
        own = StudySpec.model_validate(
            spec.model_dump() | {"seeds": [seed], "name": f"{spec.name[:NAME]}, seed {seed}"}
        )
        study_id = study_service.submit(writing, bell, own, compatible).id
        writing.add(LabClassSeedRow(class_id=taught.id, seed=seed, learner=learner, study_id=study_id))
        return keep(writing, study_id)

    return submission.submit(db, bell, settings, spec, accept, insist=False)
