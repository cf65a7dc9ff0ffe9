"""The playground on the web."""

from app.features.serving.api import playground as playground_api
from app.features.serving.api import predictions
from app.features.serving.pages.playground import routes as playground
from app.features.serving.words import playground as playground_words
from app.web.shell import Place
from app.web.site import Site
from app.words.i18n import marked

SITE = Site(
    pages=(playground.router,),
    api=(playground_api.router, predictions.router),
    words=(playground_words,),
    places=(Place("playground", "/playground", marked("Playground"), key="p", order=40),),
    actions={
        "run": "serving/of_run.html",
        "study": "serving/of_study.html",
        "model": "serving/of_model.html",
        "flips": "serving/of_flips.html",
        "flip": "serving/of_flip.html",
    },
)
