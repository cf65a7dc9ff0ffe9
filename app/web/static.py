"""Addresses of static files. Each carries a hash of its content, so that a browser may keep it for good."""

import hashlib
from functools import cache

from app.settings import ROOT

STATIC = ROOT / "static"


@cache
def static(path: str) -> str:
    """The address of a file below `static/`: `/static/css/tokens.css?v=1f3a9c02`."""
    digest = hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:8]
    return f"/static/{path}?v={digest}"
