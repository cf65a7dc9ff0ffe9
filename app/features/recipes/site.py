"""Recipes on the web."""

from app.features.recipes import api, words
from app.features.recipes.pages import routes
from app.web.shell import Place
from app.web.site import Site
from app.words.i18n import marked

SITE = Site(
    pages=(routes.router,),
    api=(api.router,),
    words=(words,),
    places=(Place("recipes", "/recipes", marked("Recipes"), key="e", order=30),),
)
