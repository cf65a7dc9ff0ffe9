"""Recipes on the web."""

from sqlalchemy.orm import Session

from app.features.recipes import api, queries, service, words
from app.features.recipes.pages import routes
from app.store.tables import StudyRow
from app.web.shell import Place
from app.web.site import Site, StudySection
from app.words.i18n import marked


def _fields(session: Session, study: StudyRow) -> dict[str, object]:
    tested = queries.of_study(session, study.id)
    return {"recipe": tested.recipe if tested else None}


SITE = Site(
    pages=(routes.router,),
    api=(api.router,),
    words=(words,),
    study_sections=(StudySection("facts", "recipes/tested.html", service.of_study),),
    study_fields=_fields,
    actions={"attention_only": "recipes/attention_only.html"},
    places=(Place("recipes", "/recipes", marked("Recipes"), key="e", order=30),),
)
