"""The steps of the Lab: a page for each, its question, and what it starts."""

from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.domain.accounts.policy import Scope
from app.domain.errors import Conflict, FieldError, Invalid
from app.domain.messages import _
from app.domain.tasks import DEFAULT_TASK
from app.features.lab.pages.learner import Learner
from app.features.lab.pages.sent import Answered, chosen_places, read_answer
from app.features.lab.pages.steps import step_page
from app.features.lab.pages.topics.memory import OutOfMemory
from app.features.lab.services import computations as lab_computations
from app.features.lab.services import lessons
from app.features.lab.services import studies as lab_studies
from app.samples import samples as sample
from app.services.data import samples
from app.services.models.compatibility import Compatible
from app.services.runs import submission
from app.services.studies import studies as study_service
from app.web.forms.once import OnceByForm
from app.web.forms.sent import SentForm
from app.web.http.dependencies import Bell, Config, Db, Reading, Store, User
from app.web.numbers import NotANumber
from app.web.templating import Render

router = APIRouter(include_in_schema=False)
"""Included in that of `/lab`."""
MOST_QUERY = 4000
"""Characters of the fields that a computation is requested with."""


@router.get("/steps/{step}")
@router.get("/pitfalls/{step}")
def show(
    session: Reading,
    settings: Config,
    learner: Learner,
    render: Render,
    request: Request,
    step: str,
    answer: Answered = None,
) -> HTMLResponse:
    """A step of the learning path, or a pitfall."""
    page = step_page(session, settings, learner, step, request.query_params, answer)
    return render.page(f"{page.address.removeprefix('/')}.html", page)


@router.post("/steps/{step}")
@router.post("/pitfalls/{step}")
def answer(
    db: Db,
    session: Reading,
    settings: Config,
    learner: Learner,
    render: Render,
    request: Request,
    step: str,
    form: SentForm,
) -> Response:
    """Judge the answer to the step's question, and finish the step; or show why the answer was refused."""
    topic, lesson = lessons.lesson(step, tuple(lessons.library()))
    try:
        given, number = read_answer(lesson.question, form)
        stored = db.write(lambda s: lessons.answer(s, learner, topic, lesson.question, given, number).id)
    except (Invalid, NotANumber) as error:
        fields = error.fields if isinstance(error, Invalid) else [FieldError("answer", error.message)]
        page = step_page(session, settings, learner, step, request.query_params)
        asked = replace(page.asked, errors=fields, given=chosen_places(form), number=form.get("answer", ""))
        return render.page(f"{page.address.removeprefix('/')}.html", replace(page, asked=asked), status=422)
    return RedirectResponse(f"{lessons.address(topic)}?answer={stored}#question", status_code=303)


@router.post("/steps/{step}/compute")
@router.post("/pitfalls/{step}/compute")
def compute(
    db: Db, bell: Bell, session: Reading, settings: Config, user: User, learner: Learner, step: str, form: SentForm
) -> RedirectResponse:
    """Have a worker compute what the step shows for these fields, or for those in `query`, and go back to it."""
    topic, _lesson = lessons.lesson(step, tuple(lessons.library()))
    sent = {name: value for name, value in form.items() if name != "csrf_token"}
    query = (form["query"] if "query" in form else str(QueryParams(sent)))[:MOST_QUERY]
    page = step_page(session, settings, learner, step, QueryParams(query))
    if refusal := page.refusal:
        raise Invalid(refusal)
    if isinstance(page.body, OutOfMemory):
        lab_computations.require_short_queue(session, "run")
        db.write(lambda writing: OutOfMemory.of(writing, settings, QueryParams(query), bell))
    elif page.computation is None:
        raise Conflict(_("There is nothing to compute yet. Prepare the sample on the page of the step."))
    else:
        request = page.computation.request
        db.write(lambda writing: lab_computations.start(writing, bell, request, may_run=user.may(Scope.RUN)))
    return RedirectResponse(f"{lessons.address(topic)}?{QueryParams(query)}#run", status_code=303)


@router.post("/sample")
def prepare(db: Db, bell: Bell, settings: Config, files: Store, form: SentForm) -> RedirectResponse:
    """Register the packaged sample, which a worker then inspects, and go back to the step, or from the empty home to
    the plan of a study."""
    address = "/studies/new"
    if step := form.get("step", ""):
        address = f"{lessons.address(lessons.lesson(step, tuple(lessons.library()))[0])}#run"
    part = sample.of_task(DEFAULT_TASK)
    with db.transaction() as session:
        samples.register(session, bell, files, settings.model_roots, part)
    return RedirectResponse(address, status_code=303)


@router.post("/studies/{plan}")
def start(
    db: Db, bell: Bell, settings: Config, session: Reading, once: OnceByForm, plan: str, form: SentForm
) -> RedirectResponse:
    """Start a small study on the sample, and lead to it."""
    kinds = [name.removeprefix("method-") for name in form if name.startswith("method-")]
    spec = lab_studies.spec(session, plan, kinds)

    def accept(writing: Session, compatible: Compatible) -> str:
        return once.keep(writing, f"/studies/{study_service.submit(writing, bell, spec, compatible).id}")

    return RedirectResponse(submission.submit(db, bell, settings, spec, accept, insist=True), status_code=303)
