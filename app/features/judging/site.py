"""Judgements and blind ratings on the web."""

from app.features.judging import words
from app.features.judging.api import blind as blind_api
from app.features.judging.api import judgements
from app.features.judging.pages import blind, judge
from app.web.site import Site

SITE = Site(
    pages=(blind.router, judge.router),
    api=(blind_api.router, judgements.router),
    words=(words,),
)
