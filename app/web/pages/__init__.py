"""Pages for people, one noun a file. `app.main` includes every router of ROUTERS."""

from fastapi import APIRouter

from app.web.pages import runs, studies, workers

ROUTERS: tuple[APIRouter, ...] = (studies.router, runs.router, workers.router)
