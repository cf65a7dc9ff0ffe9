"""Imports of large libraries."""

import gc
import importlib
import sys
from types import ModuleType


def import_large(name: str) -> ModuleType:
    """Import a module that brings large libraries, without the garbage collector, which would take a sixth to a quarter
    of the time: it would search hundreds of thousands of new objects that all stay. They are left out of later searches
    too."""
    if name in sys.modules:
        return sys.modules[name]
    gc.collect()  # what is garbage by now would stay forever
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()
