"""Quotas on the web."""

from app.features.quotas import api, pages, words
from app.features.quotas.services import quotas
from app.web.site import Section, Site

SITE = Site(
    pages=(pages.router,),
    api=(api.router,),
    words=(words,),
    account_sections=(Section("top", "quotas/usage.html", lambda session, user: quotas.account_of(session, user.id)),),
    actions={"account": "quotas/of_account.html", "users": "quotas/of_users.html"},
)
