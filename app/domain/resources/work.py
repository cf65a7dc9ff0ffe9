"""What a pass of a model makes a device do."""

from typing import NamedTuple


class Work(NamedTuple):
    """Sums over operations."""

    calls: float = 0.0
    """Operations: each has a cost of its own, however small its tensors."""
    bytes: float = 0.0
    """Bytes read and written."""
    flops: float = 0.0
    """Floating-point operations of products, convolutions and attention."""

    def __add__(self, other: "Work") -> "Work":  # type: ignore[override]
        return Work(*(a + b for a, b in zip(self, other, strict=True)))

    def __mul__(self, factor: float) -> "Work":  # type: ignore[override]
        return Work(*(factor * value for value in self))
