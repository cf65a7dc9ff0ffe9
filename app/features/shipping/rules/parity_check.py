"""Parity checks: what a request names."""

from typing import Annotated

from pydantic import Field

from app.domain.models.server_address import MAX_MODEL_LENGTH, ServerAddress
from app.domain.validation import Line

MOST_ITEMS = 10_000
"""Test items of one check; of a longer test split a sample of as many is sent."""


class NewParityCheck(ServerAddress):
    """A server to compare with a run."""

    model: Annotated[Line, Field(max_length=MAX_MODEL_LENGTH)] = ""
    """The model's name there; empty: `run-RUN`, as `vezna serve` names it."""
    items: Annotated[int, Field(ge=1, le=MOST_ITEMS)] | None = None
    """Test items that are sent, a sample of the test split; null sends all, and at most 10,000."""
