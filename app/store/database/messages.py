"""Messages and log lines as the database stores them: without what only admins may read."""

import re

import structlog

log = structlog.get_logger()

_DIRECTORIES = re.compile(r"(?<![\w./:~@-])/(?:[^\s/'\"`,;:()<>|=]+/)+(?=[^\s/'\"`,;:()<>|=])")
"""What precedes the name in an absolute path; not in an address of the web."""


def as_stored(message: str) -> str:
    """Without NUL, which PostgreSQL does not take, and with the names of files and directories instead of their
    absolute paths, which only admins see. The log has the paths."""
    short = _DIRECTORIES.sub("", message)
    if short != message:
        log.warning("a message is stored without its paths", message=message)
    return short.replace("\0", "\N{REPLACEMENT CHARACTER}")
