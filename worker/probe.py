"""Which GPUs work: `python -m worker.probe` lets torch use each of them and prints a `Probe` as JSON.

A process of its own: a worker never imports torch, and a broken driver may hang or crash the process. On ROCm torch
calls AMD's GPUs `cuda` too.
"""

import shutil
import subprocess
import sys

import torch

from worker.children.child import die_with_parent
from worker.device import Card, Probe

_SIDE = 256
MIB = 2**20


def probe() -> Probe:
    """Every GPU that torch sees, with the reason why it does not work, or why there is none."""
    if not torch.cuda.is_available():
        return Probe(problem=_reason())
    before = used_bytes()
    cards = [_card(index, before) for index in range(torch.cuda.device_count())]
    return Probe(cards=cards, problem="" if cards else "torch sees no GPU; CUDA_VISIBLE_DEVICES may hide them")


def _reason() -> str:
    """Why torch sees no GPU at all."""
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"torch {torch.__version__} is built for the CPU; install the build for your GPU "
            "(pytorch.org/get-started/locally)"
        )
    built = f"torch {torch.__version__} needs {_toolkit()}"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return f"{_first_line(error)} ({built})"
    return f"torch sees no GPU ({built})"


def _toolkit() -> str:
    return f"ROCm {torch.version.hip}" if torch.version.hip else f"a driver for CUDA {torch.version.cuda}"


def _card(index: int, before: dict[str, int]) -> Card:
    """One GPU. It has to multiply matrices: a card without kernels in this build of torch is listed too."""
    facts = torch.cuda.get_device_properties(index)
    card = Card(uuid=str(facts.uuid), name=facts.name, memory_bytes=facts.total_memory, bf16=False)
    try:
        with torch.cuda.device(index):
            bf16 = bool(torch.cuda.is_bf16_supported(including_emulation=False))
            square = torch.ones(_SIDE, _SIDE, device=index)
            torch.mm(square, square).sum().item()
            _, total = torch.cuda.mem_get_info(index)
            allocator = torch.cuda.memory_reserved(index)
    except RuntimeError as error:
        return card.model_copy(update={"problem": f"{_first_line(error)} ({_toolkit()} is what this torch needs)"})
    own = used_bytes().get(card.uuid, 0) - before.get(card.uuid, 0) - allocator
    context = own if card.uuid in before and own > 0 else None
    # A driver keeps a part of the memory that nvidia-smi shows, and a MIG slice is smaller than its GPU.
    return card.model_copy(update={"memory_bytes": total, "context_bytes": context, "bf16": bf16})


def used_bytes() -> dict[str, int]:
    """Used memory of each NVIDIA GPU by UUID, without the prefix `GPU-`; empty without nvidia-smi. A MIG slice has no
    number of its own."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [program, "--query-gpu=uuid,memory.used", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
        rows = [line.split(",") for line in answer.splitlines()]
        return {uuid.strip().removeprefix("GPU-"): int(used) * MIB for uuid, used in rows}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


if __name__ == "__main__":
    die_with_parent()
    sys.stdout.write(probe().model_dump_json())
