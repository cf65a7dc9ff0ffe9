"""Everything that only a GPU can show, in one session.

    python -m benchmarks.gpu_session [--parts tests,memory,…] [--deadline 570] [--out DIRECTORY] [--rehearse]

The parts run in order; `session.json` and `session.md` are written to the directory after each measurement. At the
deadline the running measurement is ended, and what is missing is named with its reason. A part that fails is recorded,
and the next one runs. The settings of the card are never changed. `--rehearse` runs every part on the CPU with tiny
models: it shows that the script works, and its numbers mean nothing.

docs/benchmarks/gpu.md says what the session measures and what it needs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

NEEDED = ["torch", "transformers", "peft", "accelerate", "numpy", "pyarrow", "sklearn", "pydantic", "rapidfuzz"]
if missing := [name for name in NEEDED if find_spec(name) is None]:
    sys.exit(f"These packages are missing: {', '.join(missing)}. Install them, or carry their wheels to this machine.")

from worker.children.environment import ML_ENVIRONMENT  # noqa: E402

os.environ |= ML_ENVIRONMENT | {"HF_HUB_OFFLINE": "1"}  # before torch reads it

from benchmarks.gpu import parts  # noqa: E402
from benchmarks.gpu.runs import about  # noqa: E402
from benchmarks.gpu.session import NotMeasured, Session  # noqa: E402

QUERY = "name,driver_version,power.limit,clocks.max.sm,memory.total"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The options. Exits with a message for a part that does not exist."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parts", default=",".join(parts.PARTS), help=f"from {','.join(parts.PARTS)}")
    parser.add_argument("--deadline", type=float, default=570.0, help="seconds from now")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-session")), help="a directory")
    parser.add_argument("--scratch", type=Path, help="a directory on a fast disk for models, up to 25 GB")
    parser.add_argument("--rehearse", action="store_true", help="tiny models on the CPU")
    options = parser.parse_args(words)
    options.parts = options.parts.split(",")
    if wrong := set(options.parts) - set(parts.PARTS):
        parser.error(f"--parts: no part {', '.join(sorted(wrong))}. Choose from {', '.join(parts.PARTS)}")
    return options


def driver() -> dict[str, str]:
    """What the driver reports of the card; empty without nvidia-smi. Reads only."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"driver": answer.strip().splitlines()[0]} if answer.strip() else {}


def main(words: list[str] | None = None) -> int:
    """Run the session; returns 1 if a part failed."""
    options = arguments(words)
    warnings.simplefilter("ignore", FutureWarning)  # of transformers about its own names
    with tempfile.TemporaryDirectory(dir=options.scratch, ignore_cleanup_errors=True) as scratch:
        session = Session(options.out, Path(scratch), options.deadline, rehearsal=options.rehearse)
        if options.rehearse:
            session.about = {"card": "none: a rehearsal on the CPU with tiny models, whose numbers mean nothing"}
        else:
            try:
                session.about = session.apart(about) | driver()
            except NotMeasured as why:
                print(why)
                return 0
        for name in options.parts:
            title, work = parts.PARTS[name]
            session.run(name, title, work)
            print(session.parts[-1].markdown(), flush=True)
        return int(session.failed)


if __name__ == "__main__":
    sys.exit(main())
