"""The API in OpenAI's form."""

from fastapi import APIRouter

from app.features.openai_jobs.api import files, jobs
from app.features.openai_jobs.errors import PREFIX, openai_error, openai_problems
from app.web.site import Site


def _together() -> APIRouter:
    together = APIRouter(prefix=PREFIX)
    for part in (files, jobs):
        together.include_router(part.router, responses=openai_problems(400, 401, 403, 429, 503))
    return together


SITE = Site(
    other_api=(_together(),),
    errors={PREFIX: openai_error},
)
