"""Sentences are read on pages too."""

from tests.unit.web.conftest import empty, full, registered_only, with_language

__all__ = ["empty", "full", "registered_only", "with_language"]
