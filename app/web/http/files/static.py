"""Static files. A URL contains a hash of the content, so that a browser may cache the file permanently."""

import hashlib
from functools import cache

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from app.settings import ROOT

STATIC = ROOT / "static"
SHEETS = (
    "vezna",
    "tokens",
    "base",
    "components",
    "tables",
    "forms",
    "models",
    "data",
    "study",
    "flips",
    "playground",
    "fits",
    "keys",
    "runs",
    "compare",
    "recipes",
    "account",
    "lab",
    "narrow",
)
"""The stylesheets of every page, in their order."""
FOR_GOOD = "public, max-age=31536000, immutable"
A_DAY = "public, max-age=86400"


@cache
def static(path: str) -> str:
    """The URL of a file below `static/`: `/static/css/tokens.css?v=1f3a9c02`."""
    digest = hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:8]
    return f"/static/{path}?v={digest}"


def mount(app: FastAPI) -> None:
    app.mount("/static", _Kept(directory=STATIC), name="static")


class _Kept(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        """A URL with a hash may be cached permanently. A font may be cached for a day: stylesheets reference it
        without a hash, and a page that waits for it is first drawn in another font. Any other file is requested again
        (and answered by 304, from its ETag)."""
        response = await super().get_response(path, scope)
        hashed = scope["query_string"].startswith(b"v=")
        response.headers["Cache-Control"] = FOR_GOOD if hashed else A_DAY if path.endswith(".woff2") else "no-cache"
        return response
