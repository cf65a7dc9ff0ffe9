"""Judgements and blind ratings on the web."""

from sqlalchemy.orm import Session

from app.domain.comparison.study import StudyComparison
from app.features.judging import words
from app.features.judging.api import blind as blind_api
from app.features.judging.api import judgements
from app.features.judging.pages import blind, judge
from app.features.judging.pages.judged import JudgedArms
from app.web.site import Section, Site


def _judged(session: Session, study_id: int, comparison: StudyComparison) -> JudgedArms | None:
    return JudgedArms.newest(session, comparison.spec, study_id)


SITE = Site(
    pages=(blind.router, judge.router),
    api=(blind_api.router, judgements.router),
    words=(words,),
    study_sections=(Section("arms", "judging/study.html", _judged),),
    comparison_fields=judgements.comparison_fields,
    actions={"study flips": "judging/of_study_flips.html"},
)
