"""What the pages of classes show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from app.domain.accounts.policy import Identity, Scope
from app.domain.errors import FieldError
from app.features.lab.pages.learner import GUEST
from app.features.lab.pool_figure import pool_figure
from app.features.lab.queries import classes as rows
from app.features.lab.rules.classes import LEAST_SHARING, MAX_NAME
from app.features.lab.services import class_pool, class_studies, classes, lessons
from app.features.lab.services import studies as lab_studies
from app.features.lab.services.class_pool import Pool
from app.features.lab.services.classes import ClassReport
from app.features.lab.tables import LabClassRow, LabClassSeedRow, LabMemberRow
from app.services.data import samples
from app.store.database.ownership import owner_name
from app.web.figures.figure import Drawn, drawn
from app.web.forms.errors import HasErrors

PLAN = "plan:"
"""Before the name of a plan of the Lab, in the form that chooses the study of a class."""
CLASS_PLANS = (lab_studies.FULL_OR_LORA, lab_studies.RANKS)


@dataclass(frozen=True)
class ClassesPage(HasErrors):
    """Classes that a user teaches, and those that a learner is in."""

    taught: Sequence[tuple[LabClassRow, int]]
    """With their numbers of learners."""
    others: Sequence[tuple[LabClassRow, int]]
    """Classes of other teachers, which an admin sees."""
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
        seen = classes.of_teacher(session)
        taught = [entry for entry in seen if user.user_id is None or entry[0].teacher_id == user.user_id]
        others = [entry for entry in seen if entry not in taught]
        return cls(taught, others, joined, user.may(Scope.RUN), name, errors)


@dataclass(frozen=True)
class ClassPage(HasErrors):
    """A class as its teacher sees it."""

    report: ClassReport
    link: str
    """By which learners join."""
    pool: Pool | None
    """None until a study is chosen."""
    figure: Drawn | None
    sources: Sequence[tuple[str, str]]
    """Studies to choose from: values of the form, and names."""
    sent: Mapping[str, str] = field(default_factory=dict)
    """A form that was refused."""
    errors: tuple[FieldError, ...] = ()
    least: int = LEAST_SHARING
    steps: int = len(lessons.STEPS)
    pitfalls: int = len(lessons.PITFALLS)

    @classmethod
    def of(
        cls,
        session: Session,
        class_id: int,
        link: Callable[[str], str],
        sent: Mapping[str, str] | None = None,
        errors: tuple[FieldError, ...] = (),
    ) -> "ClassPage":
        """As it stands; `link` makes an address from a code. Raises NotFound."""
        report = classes.report(session, class_id)
        pool = class_pool.pool(session, class_id)
        sources = [] if pool and pool.started else _sources(session)
        address = link(report.row.code)
        return cls(report, address, pool, pool_drawn(pool, report.row.code), sources, sent or {}, errors)


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
    pool: Pool | None
    figure: Drawn | None
    seed: LabClassSeedRow | None
    """That this learner has started."""
    sent: Mapping[str, str] = field(default_factory=dict)
    """A form that was refused."""
    errors: tuple[FieldError, ...] = ()
    least: int = LEAST_SHARING

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
        pool = class_pool.pool(session, row.id) if member else None
        return cls(
            row,
            teacher=owner_name(session, row.teacher_id),
            member=member,
            account=account_name(user),
            others=others,
            pool=pool,
            figure=pool_drawn(pool, code),
            seed=rows.seed_of(session, row.id, learner) if member else None,
            sent=sent or {},
            errors=errors,
        )

    @property
    def name(self) -> str:
        """As it was sent, else as it is stored."""
        return self.sent.get("name", self.member.name if self.member else "")

    def ticked(self, box: str) -> bool:
        """As it was sent, else as it is stored."""
        return box in self.sent if self.sent else bool(self.member and getattr(self.member, box))


def pool_drawn(pool: Pool | None, code: str) -> Drawn | None:
    """The figure of a class's pooled results; None without a study."""
    return drawn(pool_figure(pool), f"/lab/join/{code}/charts") if pool else None


def _sources(session: Session) -> list[tuple[str, str]]:
    plans = [(f"{PLAN}{plan}", lab_studies.PLANS[plan][0]) for plan in CLASS_PLANS if samples.registered(session).ready]
    return plans + [(str(row.id), row.name) for row in class_studies.candidates(session)]


def account_name(user: Identity) -> str:
    """What a teacher sees of a user: `Ana Petrova (ana@example.org)`; empty without login."""
    return (f"{user.name} ({user.email})" if user.name else user.email)[:MAX_NAME]
