"""Single sign-on on the web."""

from app.features.single_sign_on import pages
from app.web.site import Site

SITE = Site(
    pages=(pages.router,),
)
