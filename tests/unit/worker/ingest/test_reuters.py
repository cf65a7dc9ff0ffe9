"""Reuters R8 (Cardoso-Cachopo's preparation of Reuters-21578), in the directory that `VEZNA_TEST_REUTERS_R8` names."""

import os
from pathlib import Path

import pytest

from app.domain.data.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import ReadingOptions
from tests.ingested import local, prepared
from worker.ingest.scan import scan

PLACE = os.environ.get("VEZNA_TEST_REUTERS_R8", "")
FILES = ("reuters-r8-train.csv", "reuters-r8-test.csv")
pytestmark = pytest.mark.skipif(not PLACE, reason="VEZNA_TEST_REUTERS_R8 names no directory")


def test_its_own_splits_are_taken_and_what_is_odd_about_it_is_found(tmp_path: Path) -> None:
    contents = {name.removeprefix("reuters-r8-"): (Path(PLACE) / name).read_bytes() for name in FILES}
    found = scan(local(tmp_path, contents), ReadingOptions(), lambda share, rows: None)
    assert found.mapping == ColumnMapping(format="labelled", columns={"text": "text", "label": "label"})
    assert found.splitting.names == {"train": ["train"], "test": ["test"]}
    made = prepared(tmp_path, contents)
    assert made.facts is not None
    assert made.facts.counts == {"train": 4937, "validation": 548, "test": 2189}
    assert {finding.code: (finding.severity, finding.count) for finding in made.findings} == {
        "leak": ("warns", 4),
        "near-leak": ("warns", 9),
        "contradictions": ("warns", 4),
        "duplicates": ("notes", 71),
        "imbalance": ("notes", 8),
    }
    cured = prepared(tmp_path, contents, splitting=found.splitting.model_copy(update={"duplicates": "drop"}))
    assert cured.facts is not None and cured.facts.counts["test"] < 2189
    assert {finding.code for finding in cured.findings} == {"near-leak", "imbalance"}


def test_split_here_every_label_is_in_every_split(tmp_path: Path) -> None:
    contents = (Path(PLACE) / FILES[0]).read_bytes()
    made = prepared(tmp_path, contents, splitting=Splitting(test=0.2))
    assert made.facts is not None
    assert made.facts.counts == {"train": 3840, "validation": 548, "test": 1097}
    assert "label-not-tested" not in {finding.code for finding in made.findings}
