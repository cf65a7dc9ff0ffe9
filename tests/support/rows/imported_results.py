"""Imported results, for tests: our own JSON, and PEFT's files."""

import json
import os
from pathlib import Path
from typing import Any

from app.features.elsewhere.rules import NamedText
from app.settings import ROOT

HERE = ROOT / "tests/data" / "peft_method_comparison"
ALL = os.environ.get("VEZNA_TEST_PEFT_RESULTS", "")
"""A directory with every result file of PEFT's MetaMathQA suite, if there is one on this machine."""


def peft_files(folder: Path = HERE) -> list[NamedText]:
    """The result files of a folder, by name."""
    return [NamedText(path.name, path.read_bytes()) for path in sorted(folder.glob("*.json"))]


def result(**changes: Any) -> dict[str, Any]:
    """One of our own; a field that is changed to None is left out."""
    usual: dict[str, Any] = {
        "label": "LoRA r=8",
        "method": "lora",
        "metric": "accuracy",
        "score": 0.75,
        "items": 400,
        "test_set": "Headlines, test",
        "seed": 0,
        "peak_bytes": 150 * 2**20,
        "train_seconds": 28.0,
        "device": "NVIDIA L4",
        "precision": "bf16",
        "source": "https://example.org/results",
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def as_file(*results: dict[str, Any], name: str = "results.json") -> NamedText:
    """A file with one result, or a list of them."""
    return NamedText(name, json.dumps(results[0] if len(results) == 1 else list(results)))
