"""Arms of a study that is there: another one, and one that is to stop. Without scripts the form is a plain one."""

from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.domain.errors import Invalid
from app.domain.methods import METHODS
from app.services import studies as study_service
from app.store.queries import studies
from app.web.http.dependencies import Bell, Config, Db, Reading
from app.web.pages.new_study.arm_desk import ArmDesk
from app.web.pages.new_study.arm_form import ArmForm
from app.web.pages.new_study.form import StudyForm
from app.web.templating import Render

router = APIRouter(prefix="/studies/{study_id:int}/arms", include_in_schema=False)

TEMPLATE = "new_study/added_arm.html"
LONGEST_ACTION = 5000


class Sent(NamedTuple):
    """A sent form."""

    form: ArmForm | None
    """None where no arm was typed."""
    way: ArmForm | None
    """The arm of the way out whose button was pressed."""
    insists: bool
    """It is to be queued though it fits no worker."""
    seen: str
    """Name of the estimate that the page shows, where it looks again."""


async def typed(request: Request) -> Sent:
    """What was typed."""
    async with request.form(max_files=0, max_fields=200) as form:
        whole, action = StudyForm.typed(form), str(form.get("do", ""))[:LONGEST_ACTION]
        way = whole.edited(action).arms if action.startswith("set:") else ()
        return Sent(
            form=next(iter(whole.arms), None),
            way=next(iter(way), None),
            insists=form.get("insist") == "true",
            seen=str(form.get("seen", ""))[:100],
        )


Typed = Annotated[Sent, Depends(typed)]


def desk(db: Db, bell: Bell, settings: Config, session: Reading, study_id: int) -> ArmDesk:
    """The dependency behind `At`."""
    return ArmDesk(db, bell, settings, session, studies.get(session, study_id))


At = Annotated[ArmDesk, Depends(desk)]


@router.get("/new")
def blank(at: At, render: Render, method: Annotated[str, Query()] = "") -> HTMLResponse:
    """The methods to choose from, or the form of one with its defaults and what it would take."""
    return render.page(TEMPLATE, at.page(at.first(method) if method in METHODS else None))


@router.post("/new")
def edit(at: At, render: Render, sent: Typed) -> HTMLResponse:
    """The form with what the arm would take worked out, or with a way out taken."""
    if sent.way:
        return render.page(TEMPLATE, at.page(at.unlike(sent.way), focus="plan"))
    return render.page(TEMPLATE, at.page(sent.form, insists=sent.insists))


@router.post("/plan")
def estimate(at: At, render: Render, sent: Typed) -> Response:
    """What it would take, for a form that is being filled in; nothing where it is what the page shows already."""
    page = at.page(sent.form, insists=sent.insists)
    if sent.form is None or (page.memory and page.memory.version == sent.seen):
        return Response(status_code=204)
    return render.page("new_study/plan.html", page)


@router.post("")
def add(at: At, render: Render, sent: Typed) -> Response:
    """Add it, or show the form again with what is wrong at its fields."""
    if sent.form is None:
        return RedirectResponse(f"/studies/{at.study.id}/arms/new", status_code=303)
    try:
        at.add(sent.form, insist=sent.insists)
    except Invalid as error:
        return render.page(TEMPLATE, at.page(sent.form, error.at(), insists=sent.insists), status=422)
    return RedirectResponse(f"/studies/{at.study.id}", status_code=303)


@router.post("/stop")
def stop(db: Db, bell: Bell, study_id: int, arm: Annotated[str, Form(max_length=100)]) -> RedirectResponse:
    """Cancel what an arm still has to do."""
    with db.transaction() as session:
        study_service.stop_arm(session, bell, study_id, arm)
    return RedirectResponse(f"/studies/{study_id}#arms", status_code=303)
