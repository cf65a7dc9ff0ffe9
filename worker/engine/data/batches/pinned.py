"""Copies to a GPU that the host does not wait for.

    host     batch 1 | batch 2 | batch 3 …          builds batches and queues copies and kernels
    device     copy 1, step 1, copy 2, step 2 …     in this order

Nothing in a step reads from the device, so the host is ahead of it: the copy of the next batch is queued while the step
before it is computed, behind its kernels. A batch has some kilobytes, whose copy takes microseconds; a stream of its
own would overlap these, and hold a second batch.
"""

import torch


def copied(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device, for CUDA through pinned memory: from other memory `non_blocking` has no effect, and the
    host would wait until the device has reached the copy. torch keeps pinned memory until its copy is done."""
    source = tensor.pin_memory() if device.type == "cuda" else tensor
    return source.to(device, non_blocking=True)
