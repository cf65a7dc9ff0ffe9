"""Studies whose runs are trained elsewhere, imports and exports to trackers, on the web."""

from app.features.elsewhere.api import imports as imports_api
from app.features.elsewhere.api import runs
from app.features.elsewhere.pages import declare, imports
from app.web.site import Site

SITE = Site(
    pages=(imports.router, declare.router),
    api=(imports_api.router, runs.router),
)
