"""The context of an error page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorPage:
    """What went wrong, in words; the words say why and what to do."""

    status: int
    title: str
    message: str
