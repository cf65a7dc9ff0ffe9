"""The Lab on the web."""

from app.features.lab import api, words
from app.features.lab.pages import routes
from app.web.shell import Place
from app.web.site import Site
from app.words.i18n import marked

SITE = Site(
    pages=(routes.router,),
    api=(api.router,),
    words=(words,),
    actions={"first_study": "lab/sample.html"},
    places=(Place("lab", "/lab", marked("Lab"), key="l", order=80),),
)
