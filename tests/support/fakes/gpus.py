"""GPUs without hardware, for workers as processes: a driver, torch's view of it, and cards that refuse what real ones
do.

A card is a file in the folder that `VEZNA_TEST_GPUS` names; one that the driver has lost has the suffix `.lost`.
"""

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

FOLDER = "VEZNA_TEST_GPUS"
TOTAL_MIB, FREE_MIB = 23034, 22500
SMI = """\
#!/bin/sh
# As nvidia-smi, it prints nothing of the others while a card is lost, and knows the lost one by its id.
cd "$VEZNA_TEST_GPUS" || exit 9
case "$1" in
  --id=*)
    uuid=${1#--id=}
    [ -e "$uuid" ] && { echo "$uuid"; exit 0; }
    [ -e "$uuid.lost" ] && { echo "Unable to determine the device handle for GPU: GPU is lost."; exit 15; }
    echo "No devices were found"; exit 6 ;;
  --query-gpu=uuid,memory.used,memory.free)
    for card in *.lost; do [ -e "$card" ] && { echo "Unable to determine the device handle for GPU"; exit 15; }; done
    for card in GPU-*; do echo "$card, 534, 22500"; done ;;
  *) echo "Invalid combination of input arguments."; exit 2 ;;
esac
"""


def install(folder: Path, *uuids: str) -> dict[str, str]:
    """Put cards and their driver into a folder. Returns the environment in which processes find them."""
    cards, programs = folder / "gpus", folder / "bin"
    cards.mkdir()
    programs.mkdir()
    for uuid in uuids:
        (cards / uuid).touch()
    smi = programs / "nvidia-smi"
    smi.write_text(SMI)
    smi.chmod(0o755)
    return {FOLDER: str(cards), "PATH": f"{programs}:{os.environ['PATH']}"}


def lose(uuid: str, folder: Path) -> None:
    """Have a card fall off the bus."""
    (folder / "gpus" / uuid).rename(folder / "gpus" / f"{uuid}.lost")


def visible() -> list[str]:
    """The cards that CUDA_VISIBLE_DEVICES leaves: those before the first that does not exist, as CUDA does it."""
    known = sorted(path.name for path in Path(os.environ[FOLDER]).iterdir() if path.suffix != ".lost")
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return known
    names = named.split(",")
    return names[: next((place for place, name in enumerate(names) if name not in known), len(names))]


def answer_probe() -> NoReturn:
    """Print what `worker.machine.probe` would, and end the process."""
    cards = [
        {"uuid": uuid, "visible": uuid, "name": "NVIDIA L4", "memory_bytes": TOTAL_MIB * 2**20, "bf16": True}
        | {"problem": ""}
        for uuid in visible()
    ]
    sys.stdout.write(json.dumps({"cards": cards, "problem": ""}))
    sys.stdout.flush()
    os._exit(0)


class Context:
    """A CUDA context on the first visible card, in exclusive mode: the card refuses a second one."""

    def __init__(self) -> None:
        seen = visible()
        if not seen:
            raise RuntimeError("No CUDA GPUs are available")
        self.seen = seen
        self._card = Path(os.environ[FOLDER]) / seen[0]
        self._file = self._card.open()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable") from None

    def launch(self) -> None:
        """Launch a kernel; a lost card refuses it."""
        if not self._card.exists():
            raise RuntimeError("CUDA error: unspecified launch failure")
