"""Judgements of a study's answers by a judge model: the form, progress, and the arms by its scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from app.domain.errors import Conflict, FieldError, Invalid, Unavailable
from app.features.judging.pages.judged import JudgedArms
from app.features.judging.queries import judgements
from app.features.judging.rules import RUBRIC, NewJudgement
from app.features.judging.services import judgements as service
from app.features.judging.services.judgements import JUDGEMENTS
from app.services.outbound.outbound import Outbound
from app.settings import Settings
from app.store.studies import queries as studies
from app.store.tables import StudyRow
from app.web.forms.errors import HasErrors, validated
from app.web.forms.once import OnceByForm
from app.web.forms.sent import SentForm
from app.web.http.dependencies import Bell, Config, Db, Reading, RowId
from app.web.http.errors import status_of
from app.web.templating import Render

router = APIRouter(prefix="/studies/{study_id:int}/judge", include_in_schema=False)
TEMPLATE = "judging/show.html"
MOST_SHOWN = 10
FIELDS = ("url", "model", "items", "rubric")


@dataclass(frozen=True)
class JudgePage(HasErrors):
    """The form, and the judgements, the newest first."""

    study: StudyRow
    judgements: Sequence[JudgedArms]
    older: bool
    """There are more of them."""
    enabled: bool
    """Some host may be reached."""
    url: str
    model: str
    items: str
    rubric: str
    errors: tuple[FieldError, ...] = ()

    @property
    def live(self) -> bool:
        """One of them has not ended."""
        return any(one.row.live for one in self.judgements)


@router.get("")
def show(session: Reading, settings: Config, render: Render, study_id: RowId) -> HTMLResponse:
    """The page."""
    return render.page(TEMPLATE, _page(session, settings, study_id))


@router.post("")
def submit(
    db: Db,
    session: Reading,
    bell: Bell,
    settings: Config,
    render: Render,
    once: OnceByForm,
    form: SentForm,
    study_id: RowId,
) -> Response:
    """Queue a judgement; the form again with its errors."""
    sent = {name: form.get(name, "").strip().replace("\r\n", "\n") for name in FIELDS}
    try:
        given = {name: value for name, value in sent.items() if value} | {"api_key": form.get("api_key", "").strip()}
        new = validated(NewJudgement, given)
        with db.transaction() as writing:
            service.submit(writing, bell, settings, study_id, new)
            address = once.keep(writing, f"/studies/{study_id}/judge#results")
    except (Invalid, Conflict, Unavailable) as error:
        once.raise_if_answered()
        url, model, items, rubric = (sent[name] for name in FIELDS)
        page = _page(session, settings, study_id)
        page = replace(page, url=url, model=model, items=items, rubric=rubric, errors=error.at("url"))
        return render.page(TEMPLATE, page, status=status_of(error))
    return RedirectResponse(address, status_code=303)


@router.post("/{judgement_id:int}/cancel")
def cancel(db: Db, study_id: RowId, judgement_id: RowId) -> RedirectResponse:
    """Cancel a judgement."""
    with db.transaction() as session:
        JUDGEMENTS.cancel(session, JUDGEMENTS.get(session, judgement_id, study_id).id)
    return RedirectResponse(f"/studies/{study_id}/judge#results", status_code=303)


def _page(session: Session, settings: Settings, study_id: int) -> JudgePage:
    study = studies.get(session, study_id)
    if refused := service.refusal(session, study):
        raise refused
    rows = judgements.newest(session, study_id, MOST_SHOWN + 1)
    last = rows[0] if rows else None
    return JudgePage(
        study,
        [JudgedArms.of(session, study.spec, row) for row in rows[:MOST_SHOWN]],
        older=len(rows) > MOST_SHOWN,
        enabled=Outbound(settings).enabled,
        url=last.url if last else "",
        model=last.model if last else "",
        items="",
        rubric=last.rubric if last else RUBRIC,
    )
