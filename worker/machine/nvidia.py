"""What NVIDIA's driver says of the GPUs of this machine, by `nvidia-smi`: no library, and no CUDA context."""

import re
import shutil
import subprocess
from typing import NamedTuple

MIB = 2**20
SECONDS = 20.0
KILL_SECONDS = 2.0
LOST = (6, 15)
"""Exit statuses of a query by id (man nvidia-smi): there is no such GPU; it has fallen off the bus."""


_abandoned: list[subprocess.Popen[str]] = []
"""Processes that did not answer in time, until they have ended."""


class Memory(NamedTuple):
    """Bytes of one GPU."""

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
    """Its answer; None if there is none in time. A process that hangs in the driver survives SIGKILL: it is abandoned,
    since to wait for it would hang too, and as long as it is there, no other is started."""
    _abandoned[:] = [process for process in _abandoned if process.poll() is None]
    program = shutil.which("nvidia-smi")
    if program is None or _abandoned:
        return None
    command = [program, *arguments]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603
    except OSError:
        return None
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except (OSError, ValueError, subprocess.SubprocessError):
        _end(process)
        return None
    return subprocess.CompletedProcess(command, process.returncode, output)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    try:
        process.communicate(timeout=KILL_SECONDS)
    except (OSError, ValueError, subprocess.SubprocessError):
        _abandoned.append(process)
