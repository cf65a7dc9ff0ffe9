"""Every router of the core's pages, in the order in which their paths are matched."""

from fastapi import APIRouter

from app.web.pages.account import (
    audit_routes,
    hub_token_routes,
    language_routes,
    login_routes,
    token_routes,
    user_routes,
)
from app.web.pages.account import routes as account
from app.web.pages.compare import routes as compare
from app.web.pages.data import routes as data
from app.web.pages.deletion import routes as deletion
from app.web.pages.models import map_routes
from app.web.pages.models import routes as models
from app.web.pages.new_study import routes as new_study
from app.web.pages.notes import routes as notes
from app.web.pages.ownership import routes as ownership
from app.web.pages.queue import routes as queue
from app.web.pages.run import routes as run
from app.web.pages.runs import routes as runs
from app.web.pages.studies import routes as studies
from app.web.pages.study import flips_routes, report
from app.web.pages.study import routes as study
from app.web.pages.workers import routes as workers

ROUTERS: tuple[APIRouter, ...] = (
    login_routes.router,
    account.router,
    token_routes.router,
    hub_token_routes.router,
    user_routes.router,
    audit_routes.router,
    studies.router,
    new_study.router,
    runs.router,
    language_routes.router,
    compare.router,
    run.router,
    notes.router,
    ownership.router,
    queue.router,
    deletion.router,  # before the models, whose names may hold slashes
    workers.router,
    data.router,
    map_routes.router,  # before the models, whose names may hold slashes
    models.router,
    study.router,
    flips_routes.router,
    report.router,
)
API_ROUTERS: tuple[APIRouter, ...] = (report.api_router,)
"""Routers of the REST API whose content is a page."""
