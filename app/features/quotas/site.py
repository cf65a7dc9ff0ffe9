"""Quotas on the web."""

from app.features.quotas import api, pages, words
from app.web.site import Site

SITE = Site(
    pages=(pages.router,),
    api=(api.router,),
    words=(words,),
)
