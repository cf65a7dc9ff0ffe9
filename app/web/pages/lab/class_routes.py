"""Classes: a teacher's pages, and the page behind the link by which learners join."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.domain.errors import Invalid, NotFound
from app.domain.lab.classes import Joining, NewClass
from app.domain.messages import _
from app.services import classes
from app.web.forms.errors import validated
from app.web.forms.once import OnceByForm
from app.web.forms.sent import SentForm
from app.web.http.dependencies import Db, Reading, RowId, User
from app.web.pages.lab.class_context import ClassesPage, ClassPage, JoinPage, account_name
from app.web.pages.lab.learner import Learner, forget, new_guest, remember
from app.web.templating import Render

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
    report = classes.report(session, class_id)
    link = str(request.url.replace(path=f"/lab/join/{report.row.code}", query="", fragment=""))
    return render.page("lab/classes/show.html", ClassPage(report, link))


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
