"""Classes of the Lab: a teacher makes one, learners join it by its link, and the teacher sees what they share.

A class is its teacher's: others reach it by its link alone, as learners (decision 30).
"""

import secrets
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.messages import _
from app.features.lab.queries import classes as rows
from app.features.lab.rules.classes import LEAST_SHARING, MOST_MEMBERS, MOST_WRONG, Joining
from app.features.lab.rules.questions import Question, Topic
from app.features.lab.services import learner as lab
from app.features.lab.services import lessons
from app.features.lab.tables import LabClassRow, LabMemberRow
from app.services.users import audit
from app.store.database.ownership import owner_of, viewer_of

CODE_BYTES = 12


@dataclass(frozen=True)
class LearnerProgress:
    """A learner as the teacher sees one."""

    name: str
    shares: bool
    """False: the rest is unknown."""
    finished: frozenset[Topic] = frozenset()
    answered: int = 0
    """Questions."""
    right: int = 0
    """Of them, by the last answer."""

    @property
    def steps(self) -> int:
        """Finished steps of the path."""
        return len(self.finished & set(lessons.STEPS))

    @property
    def pitfalls(self) -> int:
        return len(self.finished & set(lessons.PITFALLS))


@dataclass(frozen=True)
class WrongAnswer:
    """A wrong answer to a question, and how many learners gave it at least once."""

    question: Question
    given: tuple[str, ...]
    learners: int
    answering: int
    """Sharing learners with an answer to the question."""


@dataclass(frozen=True)
class ClassReport:
    """What a teacher sees of a class."""

    row: LabClassRow
    learners: tuple[LearnerProgress, ...]
    """By name."""
    sharing_answers: int
    """Learners whose answers are counted."""
    wrong: tuple[WrongAnswer, ...]
    """The most frequent first, of questions that enough learners have answered."""

    @property
    def enough_share(self) -> bool:
        return self.sharing_answers >= LEAST_SHARING

    @property
    def sharing_progress(self) -> int:
        """Learners whose progress is shown."""
        return sum(learner.shares for learner in self.learners)


def create(session: Session, name: str) -> LabClassRow:
    """A class of the session's user."""
    row = LabClassRow(name=name, teacher_id=owner_of(session), code=secrets.token_urlsafe(CODE_BYTES))
    session.add(row)
    session.flush()
    audit.record(session, Action.CREATE_CLASS, row.id, name=name)
    return row


def taught(session: Session, class_id: int, *, lock: bool = False) -> LabClassRow:
    """A class that the session's user teaches; admins see every class. Raises NotFound, also for that of others."""
    row = rows.get(session, class_id, lock=lock)
    if row is None or not teaches(session, row):
        raise NotFound(_("There is no class %(class_id)s of yours.", class_id=class_id))
    return row


def teaches(session: Session, row: LabClassRow) -> bool:
    """The session's user sees the class as its teacher does: the teacher, an admin, and everybody without login."""
    viewer = viewer_of(session)
    return viewer is None or viewer.sees_all or row.teacher_id == viewer.user_id


def of_teacher(session: Session) -> list[tuple[LabClassRow, int]]:
    """Classes that the session's user teaches, with their numbers of learners; of an admin every class."""
    viewer = viewer_of(session)
    return rows.taught(session, owner_of(session), every=viewer is None or viewer.sees_all)


def delete(session: Session, class_id: int) -> None:
    """Delete a class; what its learners did stays theirs. Raises NotFound."""
    row = taught(session, class_id, lock=True)
    audit.record(session, Action.DELETE_CLASS, row.id, name=row.name)
    session.delete(row)


def join(session: Session, code: str, learner: str, joining: Joining) -> LabMemberRow:
    """Join a class, or change what is shared. Raises NotFound for an unknown link, Invalid for a name that another
    learner has, and Conflict if the class is full."""
    row = rows.by_code(session, code, lock=True)
    others = [one for one in rows.members(session, row.id) if one.learner != learner]
    if any(one.name.casefold() == joining.name.casefold() for one in others):
        what = _("The class already has a learner named %(name)s", name=joining.name)
        raise Invalid.field("name", what, _("Choose another name"))
    if len(others) >= MOST_MEMBERS:
        raise Conflict(_("The class has %(most)s learners, the maximum.", most=MOST_MEMBERS))
    member = rows.member(session, row.id, learner)
    action = Action.SHARE_WITH_CLASS
    if member is None:
        member, action = LabMemberRow(class_id=row.id, learner=learner), Action.JOIN_CLASS
        session.add(member)
    member.name = joining.name
    member.shares_progress, member.shares_answers = joining.shares_progress, joining.shares_answers
    session.flush()
    progress, answers = joining.shares_progress, joining.shares_answers
    audit.record(session, action, row.id, shares_progress=progress, shares_answers=answers)
    return member


def leave(session: Session, code: str, learner: str) -> None:
    """Leave a class: its teacher sees nothing of this learner any more. Raises NotFound for an unknown link."""
    row = rows.by_code(session, code, lock=True)
    if (member := rows.member(session, row.id, learner)) is not None:
        session.delete(member)
        rows.withdraw(session, row.id, learner)
        audit.record(session, Action.LEAVE_CLASS, row.id)


def report(session: Session, class_id: int) -> ClassReport:
    """What the session's user sees of a class. Raises NotFound."""
    row = taught(session, class_id)
    members = rows.members(session, row.id)
    sharing = [member.learner for member in members if member.shares_answers]
    return ClassReport(row, _progress(session, members), len(sharing), _wrong(session, sharing))


def _progress(session: Session, members: Sequence[LabMemberRow]) -> tuple[LearnerProgress, ...]:
    shown = [member.learner for member in members if member.shares_progress]
    finished = rows.finished(session, shown)
    answered, right = Counter[str](), Counter[str]()
    for learner, question, is_right in rows.last_answers(session, shown):
        if question in lab.library():
            answered[learner] += 1
            right[learner] += is_right is True
    return tuple(
        LearnerProgress(
            member.name,
            True,
            frozenset(Topic(name) for name in finished[member.learner] if name in set(Topic)),
            answered[member.learner],
            right[member.learner],
        )
        if member.shares_progress
        else LearnerProgress(member.name, False)
        for member in members
    )


def _wrong(session: Session, learners: Sequence[str]) -> tuple[WrongAnswer, ...]:
    answering = rows.answering(session, learners)
    gave: dict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    for learner, question, given in rows.wrong_answers(session, learners):
        if question not in lab.library() or lab.question(question).needs:  # which each learner has other runs for
            continue
        if answering[question] >= LEAST_SHARING:
            gave[question, tuple(sorted(given) if _is_set(lab.question(question)) else given)].add(learner)
    most = sorted(gave.items(), key=lambda entry: (-len(entry[1]), entry[0]))[:MOST_WRONG]
    return tuple(
        WrongAnswer(lab.question(question), given, len(who), answering[question]) for (question, given), who in most
    )


def _is_set(question: Question) -> bool:
    """Its answer is the set of the choices, in any order."""
    return question.kind == "multiple"
