"""What the pages of classes show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from app.domain.accounts.policy import Identity, Scope
from app.domain.errors import FieldError
from app.domain.lab.classes import LEAST_SHARING, MAX_NAME
from app.services import classes, lessons
from app.services.classes import ClassReport
from app.store.ownership import owner_name
from app.store.queries import lab_classes as rows
from app.store.tables import LabClassRow, LabMemberRow
from app.web.forms.errors import HasErrors
from app.web.pages.lab.learner import GUEST


@dataclass(frozen=True)
class ClassesPage(HasErrors):
    """Classes that a user teaches, and those that a learner is in."""

    taught: Sequence[tuple[LabClassRow, int]]
    """With their numbers of learners."""
    joined: Sequence[LabClassRow]
    may_teach: bool
    name: str = ""
    errors: tuple[FieldError, ...] = ()

    @classmethod
    def of(
        cls, session: Session, user: Identity, learner: str, name: str = "", errors: tuple[FieldError, ...] = ()
    ) -> "ClassesPage":
        """As they stand; `name` and `errors` are of a form that was refused."""
        joined = rows.joined(session, learner) if learner else ()
        return cls(classes.of_teacher(session), joined, user.may(Scope.RUN), name, errors)


@dataclass(frozen=True)
class ClassPage:
    """A class as its teacher sees it."""

    report: ClassReport
    link: str
    """By which learners join."""
    least: int = LEAST_SHARING
    steps: int = len(lessons.STEPS)
    pitfalls: int = len(lessons.PITFALLS)


@dataclass(frozen=True)
class JoinPage(HasErrors):
    """A class as its learners see it."""

    row: LabClassRow
    teacher: str
    """Empty without login."""
    member: LabMemberRow | None
    """None before the learner joins."""
    account: str
    """Name and e-mail address of the user; empty without login, where learners choose a name."""
    others: Sequence[LabMemberRow]
    """Without login: learners who may go on in this browser."""
    sent: Mapping[str, str] = field(default_factory=dict)
    """A form that was refused."""
    errors: tuple[FieldError, ...] = ()

    @classmethod
    def of(
        cls,
        session: Session,
        user: Identity,
        learner: str,
        code: str,
        sent: Mapping[str, str] | None = None,
        errors: tuple[FieldError, ...] = (),
    ) -> "JoinPage":
        """As it stands. Raises NotFound for an unknown link."""
        row = rows.by_code(session, code)
        member = rows.member(session, row.id, learner) if learner else None
        others = [] if user.user_id is not None else rows.members(session, row.id)
        others = [one for one in others if one.learner != learner and one.learner.startswith(GUEST)]
        return cls(row, owner_name(session, row.teacher_id), member, account_name(user), others, sent or {}, errors)

    @property
    def name(self) -> str:
        """As it was sent, else as it is stored."""
        return self.sent.get("name", self.member.name if self.member else "")

    def ticked(self, box: str) -> bool:
        """As it was sent, else as it is stored."""
        return box in self.sent if self.sent else bool(self.member and getattr(self.member, box))


def account_name(user: Identity) -> str:
    """What a teacher sees of a user: `Ana Petrova (ana@example.org)`; empty without login."""
    return (f"{user.name} ({user.email})" if user.name else user.email)[:MAX_NAME]
