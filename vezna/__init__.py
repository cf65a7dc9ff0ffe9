"""Vezna for scripts: a client of its REST API.

Importing it brings neither torch nor anything of the server. docs/client.md describes it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vezna.async_client import AsyncClient
    from vezna.client import Client

__all__ = ["AsyncClient", "Client"]

_PLACES = {
    "AsyncClient": "vezna.async_client",
    "Client": "vezna.client",
}


def __getattr__(name: str) -> Any:
    """Import what is used, once it is used."""
    if name not in _PLACES:
        raise AttributeError(f"module 'vezna' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
