"""Pages for people, one noun a file. `app.main` includes every router of ROUTERS."""

from fastapi import APIRouter

from app.web.pages import (
    charts,
    compare,
    data,
    dataset,
    flips,
    imports,
    memory_map,
    models,
    new_study,
    notes,
    report,
    run,
    runs,
    studies,
    study,
    study_arms,
    uploads,
    workers,
)

ROUTERS: tuple[APIRouter, ...] = (
    studies.router,
    new_study.router,
    runs.router,
    imports.router,
    compare.router,
    run.router,
    notes.router,
    workers.router,
    data.router,
    uploads.router,
    dataset.router,
    memory_map.router,  # before the models, whose names may hold slashes
    models.router,
    study.router,
    study_arms.router,
    flips.router,
    report.router,
    charts.router,
)
