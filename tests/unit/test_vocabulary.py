"""Paraphrases that standard terms replaced stay out of the product (docs/glossary.md)."""

import re
from functools import cache
from pathlib import Path

import pytest

from app.settings import ROOT

SOURCES = ("app/**/*.py", "worker/**/*.py", "templates/**/*.html", "static/js/*.js", "docs/*.md", "*.md")
RETIRED = {
    r"length apart from direction": "DoRA (weight-decomposed)",
    r"scale by √rank": "rsLoRA (scale by √r)",
    r"longest gradient": "Max gradient norm",
    r"compute activations twice": "Gradient checkpointing",
    r"keep what frozen layers give": "Cache frozen-layer activations",
    r"batch to evaluate": "Eval batch size",
    r"(?-i:Longest (row|answer))": "Max length (tokens), Max new tokens",
    r"batches a step": "Gradient accumulation steps",
    r"(?-i:Adapted layers)": "Target modules",
    r"faster second matrix": "LoRA+ LR ratio",
    r"(?-i:First values)": "Initialization",
    r"hold back the rotation": "Constrained OFT (COFT)",
    r"largest rotation": "Max rotation (eps)",
    r"steps between choices": "Pruning interval",
    r"number format": "Precision",
    r"whole time": "Wall time",
    r"untouched (model|base)": "Base model (before training)",
    r"held against": "compared with",
    r"(told|tell|tells|telling) apart": "distinguishable, significantly different",
    r"(is|are|was|were|be|been|being) looked at": "inspected, analysed",
    r"beaten by none|that no other beats": "Pareto-optimal",
    r"by heart": "Test leakage",
    r"would decide in half": "~50 % power",
    r"(is|are|was|were|be) found out": "detected automatically",
    r"the source's own splits": "predefined splits",
    r"forget this upload": "Delete upload",
    r"read it otherwise": "Reading options",
    r"(?-i:There is no such (thing|page))": "Not found",
    r"not in its present state": "Conflict",
    r"vezna made a mistake": "Internal server error",
    r"(?-i:Run again)": "Duplicate run, Duplicate study",
    r"side by side on one worker": "Runs overlapped on one worker",
    r"forgot nats": "Forgetting (nats/token)",
    r"\bnobody\b": "name who acts",
    r"\bone (asks|wants|may|can|says|looks|types|chooses|has to)\b": "you, Vezna, the worker, …",
    r"\bwhoever\b": "name who acts",
    r"\bways? out\b": "memory savings",
    r"\bforeseen\b": "estimated, planned",
    r"predicted cost": "Estimated cost",
    r"\bso many values\b": "How many values",
    r"empty with all others": "If nothing is searched",
    r"runs became infinite": "diverged",
}
"""A phrase, as a pattern that ignores case, and what to write instead."""


@cache
def lines() -> tuple[tuple[Path, int, str], ...]:
    """Every line of code, templates and documents; the changelog tells of the past in its own words."""
    return tuple(
        (path.relative_to(ROOT), number, line)
        for pattern in SOURCES
        for path in sorted(ROOT.glob(pattern))
        if path.name != "CHANGELOG.md"
        for number, line in enumerate(path.read_text().splitlines(), 1)
    )


@pytest.mark.by_day
@pytest.mark.parametrize("phrase", RETIRED)
def test_a_retired_phrase_stays_out(phrase: str) -> None:
    pattern = re.compile(phrase, re.IGNORECASE)
    places = [f"{path}:{number}: {line.strip()}" for path, number, line in lines() if pattern.search(line)]
    assert not places, f"write {RETIRED[phrase]!r} instead:\n" + "\n".join(places)
