"""GGUF: in which families of models it is written, how its tensors are stored, and their size.

Vectors (norms, biases) stay in float32. A matrix is stored in the type of the file; a quantized type stores rows in
blocks of 32 values, and a matrix whose rows are no multiple of that is stored in float16. Sources: the GGUF
specification (ggml-org/ggml, docs/gguf.md) and the block layouts in ggml-common.h.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text")
"""transformers' model types whose tensors Vezna maps, and whose GGUF files transformers loads."""
ALIGNMENT = 32
"""Each tensor begins at a multiple of this many bytes."""


class Block(NamedTuple):
    """How a type stores values."""

    values: int
    bytes: int


BLOCKS = {
    "F32": Block(1, 4),
    "F16": Block(1, 2),
    "BF16": Block(1, 2),
    "Q8_0": Block(32, 34),
    "Q5_1": Block(32, 24),
    "Q5_0": Block(32, 22),
    "Q4_1": Block(32, 20),
    "Q4_0": Block(32, 18),
}
"""By the name of the type."""


def stored_as(shape: Sequence[int], kind: str) -> str:
    """The type in which a tensor is stored in a file of a type."""
    if len(shape) < 2:
        return "F32"
    return kind if shape[-1] % BLOCKS[kind].values == 0 else "F16"


def tensor_bytes(shape: Sequence[int], kind: str) -> int:
    """Bytes of a tensor, in the type in which it is stored."""
    size = 1
    for width in shape:
        size *= width
    block = BLOCKS[kind]
    return size // block.values * block.bytes


def gguf_bytes(shapes: Iterable[Sequence[int]], kind: str) -> int:
    """Bytes of all tensors of a file; header and tokenizer come in addition."""
    return sum(-(-tensor_bytes(s, stored_as(s, kind)) // ALIGNMENT) * ALIGNMENT for s in shapes)
