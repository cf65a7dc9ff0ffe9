"""Which GPUs work: `python -m worker.machine.probe` lets torch use each of them and prints a `Probe` as JSON.

A process of its own: a worker never imports torch, and a broken driver may hang or crash the process. On ROCm torch
calls AMD's GPUs `cuda` too.
"""

import os
import sys
from typing import Any

import torch

from app.domain.errors import first_line
from app.domain.messages import _
from worker.children.child import die_with_parent
from worker.machine import nvidia
from worker.machine.device import Card, Probe

_SIDE = 256


def probe() -> Probe:
    """Every GPU that torch sees, with the reason why it does not work, or why there is none."""
    if not torch.cuda.is_available():
        return Probe(problem=_reason())
    before = nvidia.memory()
    cards = [_card(index, before) for index in range(torch.cuda.device_count())]
    return Probe(cards=cards, problem="" if cards else _("torch sees no GPU; CUDA_VISIBLE_DEVICES may hide them"))


def _reason() -> str:
    """Why torch sees no GPU at all."""
    if torch.version.cuda is None and torch.version.hip is None:
        return _(
            "torch %(version)s is built for the CPU; install the build for your GPU (pytorch.org/get-started/locally)",
            version=torch.__version__,
        )
    built = _("torch %(version)s needs %(toolkit)s", version=torch.__version__, toolkit=_toolkit())
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return f"{first_line(error)} ({built})"
    return _("torch sees no GPU (%(built)s)", built=built)


def _toolkit() -> str:
    if torch.version.hip:
        return f"ROCm {torch.version.hip}"
    return _("a driver for CUDA %(version)s", version=torch.version.cuda)


def _card(index: int, before: dict[str, nvidia.Memory]) -> Card:
    """One GPU. It has to multiply matrices: a card without kernels in this build of torch is listed too."""
    facts = torch.cuda.get_device_properties(index)
    uuid, visible = _identity(index, facts)
    card = Card(
        uuid=uuid,
        visible=visible,
        name=facts.name,
        memory_bytes=facts.total_memory,
        bf16=False,
    )
    try:
        with torch.cuda.device(index):
            bf16 = bool(torch.cuda.is_bf16_supported(including_emulation=False))
            square = torch.ones(_SIDE, _SIDE, device=index)
            torch.mm(square, square).sum().item()
            _, total = torch.cuda.mem_get_info(index)
            allocator = torch.cuda.memory_reserved(index)
    except RuntimeError as error:
        return card.model_copy(update={"problem": f"{first_line(error)} ({_toolkit()} is what this torch needs)"})
    after = nvidia.memory()
    own = after[uuid].used - before[uuid].used - allocator if uuid in before and uuid in after else 0
    context = own if own > 0 else None
    # A driver keeps a part of the memory that nvidia-smi shows, and a MIG slice is smaller than its GPU.
    return card.model_copy(update={"memory_bytes": total, "context_bytes": context, "bf16": bf16})


def _identity(index: int, facts: Any) -> tuple[str, str]:
    """The UUID of a GPU, and the value of CUDA_VISIBLE_DEVICES with which a process sees only it.

    A process sees one MIG slice at most, by default the first (docs.nvidia.com/datacenter/tesla/mig-user-guide). ROCm
    knows a GPU by its place among those that are visible.
    """
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if " MIG " in facts.name:
        named = visible if visible and visible[0].startswith("MIG-") else nvidia.mig_slices()
        uuid = named[0] if named else f"MIG-{facts.uuid}"
        return uuid, uuid if named else str(index)
    uuid = f"GPU-{facts.uuid}"
    if torch.version.hip:
        return uuid, visible[index] if index < len(visible) else str(index)
    return uuid, uuid


if __name__ == "__main__":
    die_with_parent()
    sys.stdout.write(probe().model_dump_json())
