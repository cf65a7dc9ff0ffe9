"""The code and the libraries of an attempt, as they are recorded with its numbers."""

import subprocess

from app.settings import ROOT
from worker.engine.device import environment


def test_the_code_is_what_the_command_in_the_documentation_prints() -> None:
    command = (ROOT / "docs" / "shipping.md").read_text().partition("find app worker")[2].partition("\n")[0]
    done = subprocess.run(
        ["sh", "-c", f"find app worker{command}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == environment.source_hash()
