"""Clients that send forms as the pages of an application do."""

import re

import httpx2
from fastapi import FastAPI
from starlette.requests import Request

from app.web.http import csrf


def form_headers(app: FastAPI, cookie: str = "") -> dict[str, str]:
    """The header by which htmx proves that a form is from a page; `cookie` is that of a session."""
    headers = [(b"cookie", f"{csrf.SESSION_COOKIE}={cookie}".encode())] if cookie else []
    return {csrf.HEADER: csrf.token(Request({"type": "http", "app": app, "headers": headers}))}


def form_token(page: httpx2.Response) -> str:
    """The token in the forms of a page."""
    return re.findall(r'name="csrf_token" value="([^"]+)"', page.text)[0]


def without_tokens(html: str) -> str:
    """A page without what differs each time that it is rendered: the tokens and idempotency keys of its forms."""
    html = re.sub(rf'"{csrf.HEADER}": "[^"]+"', "", html)
    return re.sub(r'name="(idempotency_key|csrf_token)"\s+value="[^"]+"', "", html)
