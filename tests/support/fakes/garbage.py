"""Imports and collection without the garbage collector; import this first.

They make millions of objects that stay. To look through all of them again and again took a third of the processor time
of collection, and later a part of every test's.
"""

import gc
from collections.abc import Generator

import pytest

gc.disable()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave out of every later search what is there when the tests are collected, and search from then on."""
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
