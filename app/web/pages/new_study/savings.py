"""What a way out sets, as a button and an address carry it: `{"training.gradient_checkpointing": true}`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.domain.methods import AnyMethod, MethodSpec

METHOD, TRAINING = "method", "training."
LONGEST = 4000
"""Characters; a list of layers to adapt is the longest that there is."""
METHODS: TypeAdapter[AnyMethod] = TypeAdapter(MethodSpec)


@dataclass(frozen=True)
class WaySet:
    """Another method, or other values of the budget."""

    method: AnyMethod | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


def read_way(text: str) -> WaySet:
    """What is no such thing sets nothing: it came by an address."""
    try:
        found = json.loads(text[:LONGEST])
    except (ValueError, RecursionError):
        return WaySet()
    if not isinstance(found, dict):
        return WaySet()
    plain = {name: value for name, value in found.items() if isinstance(value, bool | int | float)}
    training = {name.removeprefix(TRAINING): value for name, value in plain.items() if name.startswith(TRAINING)}
    return WaySet(_method(found.get(METHOD)), training)


def _method(found: object) -> AnyMethod | None:
    try:
        return METHODS.validate_python(found) if isinstance(found, dict) else None
    except ValidationError:
        return None
