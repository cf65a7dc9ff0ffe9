"""Webhooks on the web."""

from app.features.webhooks import api, words
from app.features.webhooks.pages import routes
from app.web.site import Site

SITE = Site(
    pages=(routes.router,),
    api=(api.router,),
    words=(words,),
    actions={"registry": "webhooks/of_registry.html"},
)
