"""The agent interface."""

from fastapi import FastAPI
from starlette.routing import Route

from app.features.agents.mounted import METHODS, Agents
from app.web.http.errors import AGENTS
from app.web.site import Site


def _install(app: FastAPI) -> None:
    app.router.routes.append(Route(AGENTS, Agents(app), methods=METHODS))


SITE = Site(install=_install)
