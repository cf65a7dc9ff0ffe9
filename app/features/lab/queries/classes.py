"""Queries of classes, their learners, and what those share."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import and_, func, select, update
from sqlalchemy.orm import Session

from app.domain.errors import NotFound
from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.features.lab.tables import (
    LabAnswerRow,
    LabClassRow,
    LabClassSeedRow,
    LabClassStudyRow,
    LabMemberRow,
    LabProgressRow,
)
from app.store.tables import RunRow


def get(session: Session, class_id: int, *, lock: bool = False) -> LabClassRow | None:
    """A class of any teacher; None if there is none."""
    return session.get(LabClassRow, class_id, with_for_update=True if lock else None)


def by_code(session: Session, code: str, *, lock: bool = False) -> LabClassRow:
    """The class of a link, locked until the transaction ends if a learner joins. Raises NotFound."""
    query = select(LabClassRow).where(LabClassRow.code == code)
    found = session.scalars(query.with_for_update() if lock else query).first()
    if found is None:
        raise NotFound(_("This link leads to no class. Ask your teacher for the present one."))
    return found


def taught(session: Session, teacher_id: int | None, *, every: bool) -> list[tuple[LabClassRow, int]]:
    """Classes of a teacher, or `every` class, the newest first, with their numbers of learners."""
    learners = select(func.count()).where(LabMemberRow.class_id == LabClassRow.id).scalar_subquery()
    query = select(LabClassRow, learners).order_by(LabClassRow.id.desc())
    query = query if every else query.where(LabClassRow.teacher_id == teacher_id)
    return [(row, number) for row, number in session.execute(query)]


def joined(session: Session, learner: str) -> Sequence[LabClassRow]:
    """Classes that a learner is in, the newest first."""
    query = select(LabClassRow).join(LabMemberRow, LabMemberRow.class_id == LabClassRow.id)
    return session.scalars(query.where(LabMemberRow.learner == learner).order_by(LabClassRow.id.desc())).all()


def members(session: Session, class_id: int) -> Sequence[LabMemberRow]:
    """Learners of a class by name."""
    query = select(LabMemberRow).where(LabMemberRow.class_id == class_id)
    return session.scalars(query.order_by(LabMemberRow.name)).all()


def member(session: Session, class_id: int, learner: str) -> LabMemberRow | None:
    """A learner of a class; None for one who has not joined."""
    return session.get(LabMemberRow, (class_id, learner))


def finished(session: Session, learners: Sequence[str]) -> dict[str, set[str]]:
    """Topics that each learner has finished."""
    query = select(LabProgressRow.learner, LabProgressRow.topic).where(LabProgressRow.learner.in_(learners))
    found: dict[str, set[str]] = {learner: set() for learner in learners}
    for learner, topic in session.execute(query):
        found[learner].add(topic)
    return found


def last_answers(session: Session, learners: Sequence[str]) -> list[tuple[str, str, bool | None]]:
    """The last answer of each learner to each question: learner, question, and whether it was right."""
    last = select(func.max(LabAnswerRow.id)).where(LabAnswerRow.learner.in_(learners))
    last = last.group_by(LabAnswerRow.learner, LabAnswerRow.question)
    query = select(LabAnswerRow.learner, LabAnswerRow.question, LabAnswerRow.right).where(LabAnswerRow.id.in_(last))
    return [(learner, question, right) for learner, question, right in session.execute(query)]


def wrong_answers(session: Session, learners: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Wrong answers of some learners, however often each gave it: learner, question, and what was given."""
    columns = (LabAnswerRow.learner, LabAnswerRow.question, LabAnswerRow.given_json)
    query = select(*columns).where(LabAnswerRow.learner.in_(learners), LabAnswerRow.right.is_(False))
    return [(learner, question, given) for learner, question, given in session.execute(query)]


def study(session: Session, class_id: int, *, lock: bool = False) -> LabClassStudyRow | None:
    """The study of a class; None until its teacher has chosen one."""
    return session.get(LabClassStudyRow, class_id, with_for_update=True if lock else None)


def take_seed(session: Session, class_id: int) -> int | None:
    """The next seed of a class's study; None without a study. No two learners get the same."""
    query = update(LabClassStudyRow).where(LabClassStudyRow.class_id == class_id)
    query = query.values(next_seed=LabClassStudyRow.next_seed + 1).execution_options(synchronize_session=False)
    following = session.scalar(query.returning(LabClassStudyRow.next_seed))
    return None if following is None else following - 1


def seeds(session: Session, class_id: int) -> Sequence[LabClassSeedRow]:
    """Seeds that learners have started, in order."""
    query = select(LabClassSeedRow).where(LabClassSeedRow.class_id == class_id)
    return session.scalars(query.order_by(LabClassSeedRow.seed)).all()


def seed_of(session: Session, class_id: int, learner: str) -> LabClassSeedRow | None:
    """The seed of a learner; None before it is started."""
    query = select(LabClassSeedRow).where(LabClassSeedRow.class_id == class_id, LabClassSeedRow.learner == learner)
    return session.scalars(query).first()


class StoredVerdicts(NamedTuple):
    """What is stored of the verdicts of a class, read without a lock."""

    class_id: int
    arms: int
    planned_seeds: int
    verdicts: list[list[int]]


def with_enough_seeds(session: Session, class_id: int | None = None) -> list[StoredVerdicts]:
    """Classes in which as many seeds as the verdict needs have started and are not known to be withdrawn, by id; with
    `class_id` this one at most."""
    counted = select(LabClassSeedRow.class_id, func.count().label("number"))
    started = counted.where(LabClassSeedRow.study_id.is_not(None)).group_by(LabClassSeedRow.class_id).subquery()
    stored = LabClassStudyRow.spec_json, LabClassStudyRow.planned_seeds, LabClassStudyRow.verdicts_json
    query = select(LabClassStudyRow.class_id, *stored).join(started, started.c.class_id == LabClassStudyRow.class_id)
    query = query.where(started.c.number >= LabClassStudyRow.planned_seeds).order_by(LabClassStudyRow.class_id)
    query = query if class_id is None else query.where(LabClassStudyRow.class_id == class_id)
    return [
        StoredVerdicts(found, len(spec.get("arms", ())), planned, verdicts)
        for found, spec, planned, verdicts in session.execute(query)
    ]


def arms_of_seeds(session: Session, class_ids: Sequence[int]) -> dict[int, dict[int, int]]:
    """By class and seed, the number of arms with a successful run; of seeds that are not withdrawn."""
    runs = RunRow.study_id == LabClassSeedRow.study_id, RunRow.seed == LabClassSeedRow.seed
    seed = LabClassSeedRow.class_id, LabClassSeedRow.seed
    query = select(*seed, func.count(RunRow.arm.distinct())).join(RunRow, and_(*runs))
    query = query.where(LabClassSeedRow.class_id.in_(class_ids), RunRow.status == RunStatus.SUCCEEDED)
    query = query.where(RunRow.trial_round.is_(None), RunRow.private_to.is_(None)).group_by(*seed)
    found: dict[int, dict[int, int]] = {class_id: {} for class_id in class_ids}
    for class_id, number, arms in session.execute(query):
        found[class_id][number] = arms
    return found


def answering(session: Session, learners: Sequence[str]) -> dict[str, int]:
    """How many of some learners have answered each question."""
    number = func.count(LabAnswerRow.learner.distinct())
    query = select(LabAnswerRow.question, number).where(LabAnswerRow.learner.in_(learners))
    return {question: count for question, count in session.execute(query.group_by(LabAnswerRow.question))}


def withdraw(session: Session, class_id: int, learner: str) -> None:
    """Take a learner's seed out of the pool. It stays the learner's only one, and its number stays used."""
    query = update(LabClassSeedRow).where(LabClassSeedRow.class_id == class_id, LabClassSeedRow.learner == learner)
    session.execute(query.values(study_id=None).execution_options(synchronize_session=False))
