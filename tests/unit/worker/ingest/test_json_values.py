"""What JSON permits and a dataset cannot keep: duplicate keys, NaN as a label, labels of different types."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.data.guesses.mapping import ColumnMapping
from tests.support.ingested import prepared, scanned

LABELLED = ColumnMapping(format="labelled", columns={"text": "text", "label": "label"})
TURNS = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "content": "c"}]'


def written(name: str, rows: list[str]) -> bytes:
    """Rows of JSON as the file `name` has them."""
    if name == "nested.json":
        return f'{{"version": 1, "data": [{", ".join(rows)}]}}'.encode()
    return f"[{', '.join(rows)}]".encode() if name == "data.json" else "\n".join(rows).encode()


def labelled(labels: list[str]) -> list[str]:
    """Rows with some labels, as JSON."""
    return [f'{{"text": "text number {i}", "label": {label}}}' for i, label in enumerate(labels)]


@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "nested.json"])
def test_a_duplicate_key_is_a_finding_with_its_rows_wherever_it_is(tmp_path: Path, name: str) -> None:
    rows = [
        '{"text": "a", "label": "x", "messages": [], "none": {"a": 1}}',
        '{"text": "b", "label": "x", "label": "y", "label": "z", "messages": [{"role": 1}, {"role": 2}]}',
        f'{{"text": "c", "label": "x", "messages": {TURNS}}}',
        f'{{"messages": {TURNS}, "text": "d", "text": "e", "label": "x"}}',
    ]
    found = scanned(tmp_path, written(name, rows), name)
    of_json = {f.column: f for f in found.findings if f.code == "duplicate-keys"}
    assert {column: (f.severity, f.count, f.details.labels) for column, f in of_json.items()} == {
        "label": ("warns", 1, ["label"]),
        "messages": ("warns", 2, ["content"]),
        "text": ("warns", 1, ["text"]),
    }
    assert [(e.row, e.excerpt) for e in of_json["label"].examples] == [(2, "z")]
    assert [e.row for e in of_json["messages"].examples] == [3, 4]
    assert '"c"' in of_json["messages"].examples[0].excerpt and '"b"' not in of_json["messages"].examples[0].excerpt
    assert [(e.row, e.excerpt) for e in of_json["text"].examples] == [(4, "e")]


def test_labels_that_are_not_finite_are_left_out_and_named(tmp_path: Path) -> None:
    rows = labelled(["0.5", "1.5"] * 60 + ["NaN", "Infinity", "-Infinity"])
    found = prepared(tmp_path, {"data.jsonl": written("data.jsonl", rows)}, LABELLED)
    [finding] = [f for f in found.findings if f.code == "not-a-number"]
    assert (finding.severity, finding.count, finding.column) == ("warns", 3, "label")
    assert [(e.row, e.excerpt) for e in finding.examples] == [(121 + i, f"text number {120 + i}") for i in range(3)]
    assert found.facts and found.facts.label_counts == {"0.5": 60, "1.5": 60}
    named = LABELLED.model_copy(update={"label_names": {"nan": "unknown", "inf": "unknown", "-inf": "unknown"}})
    found = prepared(tmp_path, {"data.jsonl": written("data.jsonl", rows)}, named)
    assert found.facts and found.facts.label_counts == {"0.5": 60, "1.5": 60, "unknown": 3}


def test_labels_of_nan_in_parquet_are_left_out_and_text_remains_text(tmp_path: Path) -> None:
    texts = [f"text number {i}" for i in range(123)]
    for labels, counted in (([0.5, 1.5, float("nan")] * 41, 2), (["a", "b", "nan"] * 41, 3)):
        file = io.BytesIO()
        pq.write_table(pa.table({"text": texts, "label": labels}), file)
        found = prepared(tmp_path, {"data.parquet": file.getvalue()}, LABELLED)
        assert found.facts and len(found.facts.label_counts) == counted
        assert [f.count for f in found.findings if f.code == "not-a-number"] == ([41] if counted == 2 else [])


@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
def test_labels_of_different_types_that_become_one_are_named_with_rows(tmp_path: Path, name: str) -> None:
    rows = labelled(["1", '"1"', "1.0", '"0"'] * 30 + ["true", '"true"', "null"])
    found = prepared(tmp_path, {name: written(name, rows)}, LABELLED)
    [finding] = [f for f in found.findings if f.code == "labels-alike"]
    assert (finding.severity, finding.count, finding.details.differ_by) == ("warns", 5, "type")
    assert finding.details.alike == [["1", '"1"', "1.0"], ["true", '"true"']]
    assert [(e.row, e.excerpt) for e in finding.examples] == [
        (1, "1"),
        (2, '"1"'),
        (3, "1.0"),
        (121, "true"),
        (122, '"true"'),
    ]
    named = LABELLED.model_copy(update={"label_names": {"1": "good", "true": "good"}})
    assert not [f for f in prepared(tmp_path, {name: written(name, rows)}, named).findings if f.code == "labels-alike"]


def test_labels_of_one_type_or_of_a_file_without_types_are_not_alike(tmp_path: Path) -> None:
    for labels in (["1", "2.0", "3.5"] * 40, ['"1"', '"2"', '"1.0"'] * 40):
        found = prepared(tmp_path, {"data.jsonl": written("data.jsonl", labelled(labels))}, LABELLED)
        assert not [f for f in found.findings if f.code == "labels-alike"]
