"""The commands of the documentation, executed as they are written."""

import os
import re
import subprocess
import sys
from pathlib import Path

from app.settings import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVER = "http://127.0.0.1:8000"


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page in a language, in their order."""
    return [
        text for kind, text in BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")) if kind == language
    ]


def shell(folder: Path, commands: str, url: str) -> str:
    """What commands print, executed in a folder; they must all succeed."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "VEZNA_URL": url}
    environment.setdefault("VEZNA_TOKEN", "")
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", commands.replace(SERVER, url)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "urn:vezna:" not in done.stdout, "a request was refused"
    return done.stdout
