"""Reuters R8 (Cardoso-Cachopo's preparation of Reuters-21578), in the directory that `VEZNA_TEST_REUTERS_R8` names."""

import os
from pathlib import Path

import pytest

from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.data.uploads import ReadingOptions
from tests.support.ingested import local, prepared
from worker.ingest.scan import scan

PLACE = os.environ.get("VEZNA_TEST_REUTERS_R8", "")
FILES = ("reuters-r8-train.csv", "reuters-r8-test.csv")
pytestmark = pytest.mark.skipif(not PLACE, reason="VEZNA_TEST_REUTERS_R8 names no directory")


def test_its_own_splits_are_taken_and_what_is_odd_about_it_is_found(tmp_path: Path) -> None:
    contents = {name.removeprefix("reuters-r8-"): (Path(PLACE) / name).read_bytes() for name in FILES}
    guessed = scan(local(tmp_path, contents), ReadingOptions(), lambda share, rows: None)
    assert guessed.mapping == ColumnMapping(format="labelled", columns={"text": "text", "label": "label"})
    assert guessed.splitting.names == {"train": ["train"], "test": ["test"]}
    dataset = prepared(tmp_path, contents)
    assert dataset.facts is not None
    assert dataset.facts.counts == {"train": 4937, "validation": 548, "test": 2189}
    assert {finding.code: (finding.severity, finding.count) for finding in dataset.findings} == {
        "leak": ("warns", 4),
        "near-leak": ("warns", 9),
        "contradictions": ("warns", 4),
        "duplicates": ("notes", 71),
        "imbalance": ("notes", 8),
    }
    deduplicated = prepared(tmp_path, contents, splitting=guessed.splitting.model_copy(update={"duplicates": "drop"}))
    assert deduplicated.facts is not None and deduplicated.facts.counts["test"] < 2189
    assert {finding.code for finding in deduplicated.findings} == {"near-leak", "imbalance"}


def test_a_stratified_split_has_every_label_in_every_split(tmp_path: Path) -> None:
    contents = (Path(PLACE) / FILES[0]).read_bytes()
    dataset = prepared(tmp_path, contents, splitting=Splitting(test=0.2))
    assert dataset.facts is not None
    # 20 % and 10 % of 5,485 rows are 1,097 and 548; two equal rows at the boundary stay together, in test.
    assert dataset.facts.counts == {"train": 3840, "validation": 547, "test": 1098}
    assert "label-not-tested" not in {finding.code for finding in dataset.findings}
