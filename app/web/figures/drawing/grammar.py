"""Altair, the grammar of the charts, loaded with the first chart that is drawn: a quarter of a second that a server's
start and pages without charts do without.

A module that draws has `from app.web.figures.drawing import grammar as alt` where it would have `import altair as alt`,
and its annotations stay unevaluated (`from __future__ import annotations`).
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from altair import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        """What Altair has by that name."""
        return getattr(_altair(), name)


@cache
def _altair() -> Any:
    import altair  # noqa: PLC0415
    from altair.utils.schemapi import disable_debug_mode  # noqa: PLC0415

    disable_debug_mode()  # a check of each part against its schema as it is made: slow, and tests check whole charts
    return altair
