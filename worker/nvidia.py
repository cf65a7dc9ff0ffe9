"""What NVIDIA's driver says of the GPUs of this machine, by `nvidia-smi`: no library, and no CUDA context."""

import re
import shutil
import subprocess
from typing import NamedTuple

MIB = 2**20
SECONDS = 20.0
LOST = (6, 15)
"""Exit statuses of a query by id (man nvidia-smi): there is no such GPU; it has fallen off the bus."""


class Memory(NamedTuple):
    """Of one GPU, in bytes."""

    used: int
    free: int


def memory() -> dict[str, Memory]:
    """The memory of each GPU by UUID (`GPU-…`); empty without nvidia-smi. A MIG slice has no number of its own."""
    done = _query("--query-gpu=uuid,memory.used,memory.free", "--format=csv,noheader,nounits")
    rows = re.findall(r"^(GPU-[^\s,]+), *(\d+), *(\d+)\s*$", done.stdout if done else "", re.MULTILINE)
    return {uuid: Memory(int(used) * MIB, int(free) * MIB) for uuid, used, free in rows}


def is_lost(uuid: str) -> bool:
    """Whether the driver has lost a GPU. False if it does not answer at all, and for a MIG slice, which it knows by its
    GPU only."""
    if not uuid.startswith("GPU-"):
        return False
    done = _query(f"--id={uuid}", "--query-gpu=uuid", "--format=csv,noheader")
    return done is not None and done.returncode in LOST


def mig_slices() -> list[str]:
    """UUIDs of the MIG slices that this process may see (`MIG-…`)."""
    done = _query("--list-gpus")
    return re.findall(r"UUID: (MIG-[^)\s]+)", done.stdout if done else "")


def _query(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        return subprocess.run(  # noqa: S603
            [program, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
