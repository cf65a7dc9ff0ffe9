"""Classes: a teacher's pages, and the page behind the link by which learners join."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.accounts.policy import Identity, Scope
from app.domain.errors import FieldError, Forbidden, Invalid, NotFound
from app.domain.messages import _
from app.features.lab.pages.learner import GUEST, Learner, forget, new_guest, remember
from app.features.lab.pool_figure import pool_figure
from app.features.lab.queries import classes as rows
from app.features.lab.rules.classes import LEAST_SHARING, MAX_NAME, ClassStudy, Joining, NewClass
from app.features.lab.services import class_pool, class_studies, classes, lessons
from app.features.lab.services import studies as lab_studies
from app.features.lab.services.class_pool import Pool
from app.features.lab.services.classes import ClassReport
from app.features.lab.tables import LabClassRow, LabClassSeedRow, LabMemberRow
from app.services.data import samples
from app.store.database.ownership import owner_name
from app.web.figures.drawing.render import Theme
from app.web.figures.figure import Drawn, drawn
from app.web.forms.errors import HasErrors, validated
from app.web.forms.once import OnceByForm
from app.web.forms.sent import SentForm
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId, User
from app.web.http.files.figure_file import Ending, figure_file
from app.web.templating import Render

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


router = APIRouter(include_in_schema=False)
"""Included in that of `/lab`."""
BOXES = ("shares_progress", "shares_answers")


@router.get("/classes")
def index(session: Reading, user: User, learner: Learner, render: Render) -> HTMLResponse:
    """The classes that the user teaches and those that the learner is in."""
    return render.page("lab/classes/index.html", ClassesPage.of(session, user, learner))


@router.post("/classes")
def create(
    db: Db, session: Reading, user: User, learner: Learner, render: Render, once: OnceByForm, form: SentForm
) -> Response:
    """Make a class, and show it."""
    name = form.get("name", "")
    try:
        new = validated(NewClass, {"name": name})
    except Invalid as error:
        once.raise_if_answered()
        page = ClassesPage.of(session, user, learner, name, error.fields)
        return render.page("lab/classes/index.html", page, status=422)
    with db.transaction() as writing:
        address = once.keep(writing, f"/lab/classes/{classes.create(writing, new.name).id}")
    return RedirectResponse(address, status_code=303)


@router.get("/classes/{class_id}")
def show(request: Request, session: Reading, render: Render, class_id: RowId) -> HTMLResponse:
    """A class for its teacher."""
    return render.page("lab/classes/show.html", ClassPage.of(session, class_id, partial(_link, request)))


@router.post("/classes/{class_id}/study")
def choose_study(
    request: Request, db: Db, session: Reading, render: Render, class_id: RowId, form: SentForm
) -> Response:
    """Choose the study that every learner runs with a seed of their own."""
    source, planned = form.get("study", ""), form.get("planned_seeds", "").strip()
    plan = source.removeprefix(PLAN) if source.startswith(PLAN) else ""
    try:
        values = {"plan": plan, "study_id": None if plan else source or None, "planned_seeds": planned}
        chosen = validated(ClassStudy, values)
        db.write(lambda writing: class_studies.choose(writing, class_id, chosen))
    except Invalid as error:
        page = ClassPage.of(session, class_id, partial(_link, request), form, error.fields)
        return render.page("lab/classes/show.html", page, status=422)
    return RedirectResponse(f"/lab/classes/{class_id}#study", status_code=303)


@router.post("/classes/{code}/seed")
def start_seed(
    db: Db, bell: Bell, settings: Config, session: Reading, learner: Learner, once: OnceByForm, code: str
) -> RedirectResponse:
    """Start the learner's seed of the class's study, and lead to it."""

    def keep(writing: Session, study_id: int) -> str:
        return once.keep(writing, f"/studies/{study_id}")

    address = class_studies.start(db, bell, settings, session, code, learner, keep)
    return RedirectResponse(address, status_code=303)


@router.post("/classes/{class_id}/delete")
def delete(db: Db, class_id: RowId) -> RedirectResponse:
    """Delete a class."""
    db.write(lambda session: classes.delete(session, class_id))
    return RedirectResponse("/lab/classes", status_code=303)


@router.get("/join/{code}")
def join_page(session: Reading, user: User, learner: Learner, render: Render, code: str) -> HTMLResponse:
    """The class of a link, for a learner who joins it or has joined."""
    return render.page("lab/classes/join.html", JoinPage.of(session, user, learner, code))


@router.post("/join/{code}")
def join(
    request: Request, db: Db, session: Reading, user: User, learner: Learner, render: Render, code: str, form: SentForm
) -> Response:
    """Join a class, or change what is shared."""
    values = {"name": account_name(user) or form.get("name", "")} | {box: box in form for box in BOXES}
    key = learner or new_guest()
    try:
        joining = validated(Joining, values)
        db.write(lambda writing: classes.join(writing, code, key, joining))
    except Invalid as error:
        page = JoinPage.of(session, user, learner, code, form, error.fields)
        return render.page("lab/classes/join.html", page, status=422)
    answer = RedirectResponse(f"/lab/join/{code}", status_code=303)
    remember(request, answer, key)
    return answer


@router.get("/join/{code}/charts/pool.{ending}")
def chart(session: Reading, learner: Learner, code: str, ending: Ending, theme: Theme = "light") -> Response:
    """The pooled results of a class as a file, for its learners and its teacher. Raises NotFound without a study, and
    Forbidden for others, whom the link alone permits only to join."""
    row = rows.by_code(session, code)
    if not (classes.teaches(session, row) or (learner and rows.member(session, row.id, learner))):
        raise Forbidden(_("You are not in this class. Join it first."))
    if (pool := class_pool.pool(session, row.id)) is None:
        raise NotFound(_("The teacher has not chosen a study yet."))
    return figure_file(pool_figure(pool), ending, theme, "class")


@router.post("/join/{code}/leave")
def leave(db: Db, learner: Learner, code: str) -> RedirectResponse:
    """Leave a class. The learner's progress stays the learner's."""
    db.write(lambda writing: classes.leave(writing, code, learner))
    return RedirectResponse("/lab/classes", status_code=303)


@router.post("/join/{code}/switch")
def switch(request: Request, session: Reading, user: User, code: str, form: SentForm) -> RedirectResponse:
    """Without login: go on in this browser as another learner of the class, or as none. Raises NotFound."""
    answer = RedirectResponse(f"/lab/join/{code}", status_code=303)
    chosen = form.get("learner", "")
    if not chosen:
        forget(request, answer)
        return answer
    if chosen not in {one.learner for one in JoinPage.of(session, user, "", code).others}:
        raise NotFound(_("The class has no such learner."))
    remember(request, answer, chosen)
    return answer


def _link(request: Request, code: str) -> str:
    """The address by which learners join."""
    return str(request.url.replace(path=f"/lab/join/{code}", query="", fragment=""))
