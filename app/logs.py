"""Logging: structlog on top of the standard library, as text for people or as JSON lines for collectors."""

import logging
import re
import sys

import structlog

from app.settings import Settings

LINKS = re.compile(r"/(first-admin|password)/[^\s/?\"]+")
"""Paths that are secrets: links that work once."""


def hide_links(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Leave out the secrets of links in lines about requests. The start of a server logs its link by another name."""
    for name in ("event", "path"):
        if isinstance(event.get(name), str):
            event[name] = LINKS.sub(r"/\1/(secret)", event[name])
    return event


def configure(settings: Settings) -> None:
    """Set up this process's logging, on standard error. Called once, by each entry point."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_links,
    ]
    renderer: structlog.typing.Processor
    if settings.log_format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "celery"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for quiet in ("httpx2", "alembic.runtime.migration", "kombu", "amqp", "botocore", "aiobotocore", "s3fs", "fsspec"):
        logging.getLogger(quiet).setLevel("WARNING")  # botocore's debug level is thousands of lines for a file
