"""The Lab: what is due, questions, ratings, and files for Anki and for calendars."""

from dataclasses import replace

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.domain.errors import FieldError, Invalid
from app.domain.messages import _
from app.features.lab.pages import class_routes, files, step_routes
from app.features.lab.pages.context import question_page
from app.features.lab.pages.home import lab_page, recap_page
from app.features.lab.pages.learner import Learner
from app.features.lab.pages.sent import Answered, chosen_places, read_answer
from app.features.lab.rules.review import Rating
from app.features.lab.services import learner as lab
from app.store.tables import now
from app.web.forms.sent import SentForm
from app.web.http.dependencies import Db, Reading, RowId
from app.web.numbers import NotANumber
from app.web.templating import Render
from app.words.i18n import language

router = APIRouter(prefix="/lab", include_in_schema=False)
router.include_router(step_routes.router)
router.include_router(class_routes.router)


@router.get("")
def home(session: Reading, learner: Learner, render: Render) -> HTMLResponse:
    """What is due, the plan for review, and the topics."""
    return render.page("lab/home.html", lab_page(session, learner))


@router.get("/recap")
def recap(session: Reading, learner: Learner, render: Render) -> HTMLResponse:
    """The recap of the course, with what shows each sentence and what the learner wrote before."""
    return render.page("lab/recap.html", recap_page(session, learner))


@router.get("/review")
def review(session: Reading, learner: Learner) -> RedirectResponse:
    """The next question that is due; the start of the Lab if none is."""
    due = lab.queue(session, learner, now()).questions
    return RedirectResponse(f"/lab/questions/{due[0].id}" if due else "/lab", status_code=303)


@router.get("/questions/{question_id}")
def question(
    session: Reading, learner: Learner, render: Render, question_id: str, answer: Answered = None
) -> HTMLResponse:
    """A question, or the result of an answer to it."""
    return render.page("lab/question.html", question_page(session, learner, question_id, answer))


@router.post("/questions/{question_id}")
def answer(db: Db, session: Reading, learner: Learner, render: Render, question_id: str, form: SentForm) -> Response:
    """Store and judge an answer, and show the result; or the question with the reason why it was refused."""
    try:
        given, number = read_answer(question_id, form)
        stored = db.write(lambda s: lab.give(s, learner, question_id, given, number).id)
    except (Invalid, NotANumber) as error:
        fields = error.fields if isinstance(error, Invalid) else [FieldError("answer", error.message)]
        page = question_page(session, learner, question_id)
        page = replace(page, errors=fields, given=chosen_places(form), number=form.get("answer", ""))
        return render.page("lab/question.html", page, status=422)
    return RedirectResponse(f"/lab/questions/{question_id}?answer={stored}", status_code=303)


@router.post("/answers/{answer_id}/rating")
def rate(db: Db, learner: Learner, answer_id: RowId, form: SentForm) -> RedirectResponse:
    """Schedule the question by how well the learner remembered, and go on."""
    if form.get("rating") not in {str(int(rating)) for rating in Rating}:
        raise Invalid.field("rating", _("The rating is missing"), _("Choose one of the four"))
    db.write(lambda session: lab.rate(session, learner, answer_id, Rating(int(form["rating"])), now()))
    return RedirectResponse("/lab/review", status_code=303)


@router.get("/anki.txt")
def anki() -> Response:
    """Every question as a file that Anki imports."""
    headers = {"Content-Disposition": 'attachment; filename="vezna-lab.txt"'}
    return Response(files.anki(language()), media_type="text/plain; charset=utf-8", headers=headers)


@router.get("/calendar.ics")
def calendar(session: Reading, learner: Learner) -> Response:
    """The days on which questions are due, for a calendar."""
    queue = lab.queue(session, learner, now())
    headers = {"Content-Disposition": 'attachment; filename="vezna-lab.ics"'}
    return Response(files.calendar(queue, now()), media_type="text/calendar; charset=utf-8", headers=headers)
