"""Files of results for `vezna import`: which are found, and how many go into a request."""

import json
from pathlib import Path

import pytest

from app.domain.errors import Invalid
from app.features.elsewhere.cli import result_files
from app.features.elsewhere.rules import MOST_AT_ONCE, MOST_FILE_BYTES, MOST_RESULTS


def test_directories_are_searched_and_each_file_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.json", "a.json", "deep/c.json", "notes.md"):
        (tmp_path / name).write_text("{}")
    found = result_files.result_files([tmp_path / "b.json", tmp_path])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b.json", "a.json", "deep/c.json"]


def test_ten_thousand_files_go_in_parts_that_a_request_can_hold(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number:05}.json").write_text("{}")
    parts = list(result_files.batches(result_files.result_files([tmp_path])))
    assert sum(map(len, parts)) == 10_000
    assert max(map(len, parts)) == result_files.BATCH_FILES


def test_a_part_is_no_longer_than_a_request_and_a_file_that_is_too_long_is_cut_for_the_refusal(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.json").write_text("x" * (MOST_FILE_BYTES + 100))
    parts = list(result_files.batches(result_files.result_files([tmp_path])))
    assert [len(part) for part in parts] == [1, 1, 1, 1]
    assert all(len(part[0].text) == MOST_FILE_BYTES + 1 for part in parts)


def test_an_absent_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="does not exist"):
        result_files.result_files([tmp_path / "gone.json"])
    with pytest.raises(Invalid, match=r"no \.json file"):
        result_files.result_files([tmp_path])


def test_a_part_has_no_more_results_than_a_request_may_bring(tmp_path: Path) -> None:
    for number in range(13):
        (tmp_path / f"{number:02}.json").write_text(json.dumps([{}] * MOST_RESULTS))
    parts = list(result_files.batches(result_files.result_files([tmp_path])))
    assert [len(part) for part in parts] == [5, 5, 3]
    assert MOST_AT_ONCE == 5 * MOST_RESULTS
