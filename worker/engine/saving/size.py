"""The size of a safetensors file before it is written, computed from its tensors.

8 bytes for the header's length · the header, JSON padded to a multiple of 8 · the values of every tensor
"""

import json
from collections.abc import Mapping

import torch

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The names that safetensors uses."""


def file_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes on disk of `save_file(tensors, file, metadata={"format": "pt"})`; the tensors may be fake or on `meta`."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    # The widest dtypes come first, so that all tensors are aligned; the order determines the digits of the offsets.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [begin, end]}
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8 + end
