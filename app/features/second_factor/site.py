"""The second factor on the web."""

from app.features.second_factor import pages
from app.web.site import Site

SITE = Site(
    pages=(pages.router,),
)
