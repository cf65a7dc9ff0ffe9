"""Vezna for scripts: a client of its REST API, and the reporter of runs that are trained elsewhere.

Importing it brings neither torch nor anything of the server. docs/client.md and docs/elsewhere.md describe it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vezna.async_client import AsyncClient
    from vezna.client import Client
    from vezna.run import Run
    from vezna.tracking import track
    from vezna.trainer import VeznaCallback

__all__ = ["AsyncClient", "Client", "Run", "VeznaCallback", "track"]

_PLACES = {
    "AsyncClient": "vezna.async_client",
    "Client": "vezna.client",
    "Run": "vezna.run",
    "VeznaCallback": "vezna.trainer",
    "track": "vezna.tracking",
}


def __getattr__(name: str) -> Any:
    """Import what is used, once it is used."""
    if name not in _PLACES:
        raise AttributeError(f"module 'vezna' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
