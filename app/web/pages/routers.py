"""Every router of the pages, in the order in which their paths are matched."""

from fastapi import APIRouter

from app.web.pages.account import (
    factor_routes,
    hub_token_routes,
    limits,
    login_routes,
    openid_routes,
    token_routes,
    user_routes,
)
from app.web.pages.account import routes as account
from app.web.pages.audit import routes as audit
from app.web.pages.compare import routes as compare
from app.web.pages.data import routes as data
from app.web.pages.deletion import routes as deletion
from app.web.pages.external import routes as external
from app.web.pages.imports import routes as imports
from app.web.pages.lab import routes as lab
from app.web.pages.language import routes as language
from app.web.pages.models import map_routes
from app.web.pages.models import routes as models
from app.web.pages.new_study import routes as new_study
from app.web.pages.notes import routes as notes
from app.web.pages.ownership import routes as ownership
from app.web.pages.playground import routes as playground
from app.web.pages.queue import routes as queue
from app.web.pages.recipes import routes as recipes
from app.web.pages.registry import routes as registry
from app.web.pages.run import exports as run_exports
from app.web.pages.run import hub as run_hub
from app.web.pages.run import parity as run_parity
from app.web.pages.run import routes as run
from app.web.pages.runs import routes as runs
from app.web.pages.studies import routes as studies
from app.web.pages.study import blind, flips_routes, judge, report
from app.web.pages.study import routes as study
from app.web.pages.webhooks import routes as webhooks
from app.web.pages.workers import routes as workers

ROUTERS: tuple[APIRouter, ...] = (
    login_routes.router,
    account.router,
    token_routes.router,
    hub_token_routes.router,
    factor_routes.router,
    openid_routes.router,
    limits.router,
    user_routes.router,
    audit.router,
    studies.router,
    new_study.router,
    runs.router,
    recipes.router,
    playground.router,
    imports.router,
    external.router,
    lab.router,
    language.router,
    compare.router,
    run.router,
    run_exports.router,
    run_hub.router,
    run_parity.router,
    registry.router,
    webhooks.router,
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
    blind.router,
    judge.router,
    report.router,
)
API_ROUTERS: tuple[APIRouter, ...] = (report.api_router,)
"""Routers of the REST API whose content is a page."""
