"""Pages for people, one noun a file. `app.main` includes every router of ROUTERS."""

from fastapi import APIRouter

ROUTERS: tuple[APIRouter, ...] = ()
