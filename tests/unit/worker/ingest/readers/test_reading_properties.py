"""Whatever comes: what was written is read, and what is no table ends in a sentence."""

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.data.uploads import ReadingOptions
from tests.support.ingested import local, scanned
from worker.ingest.readers.batches import Unreadable
from worker.ingest.readers.files import Files

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=40)
"""Without carriage returns: whether one is an end of line is for whoever writes to choose."""
ROWS = st.lists(st.tuples(LINES, LINES), min_size=1, max_size=30)
SCALAR = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT
OBJECTS = st.lists(
    st.dictionaries(st.sampled_from(["text", "label", "a b"]), SCALAR | st.lists(TEXT, max_size=3), min_size=1),
    min_size=1,
    max_size=20,
)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as found:
        yield Path(found)


def rows_in(content: bytes, name: str, **options: object) -> list[tuple[int, dict[str, Any]]]:
    """Every row with its number."""
    with folder() as place:
        [part] = local(place, {name: content})
        opened = Files([part], ReadingOptions.model_validate(options), lambda share, rows: None).open(part)
        return [
            (number, {column: values[i] for column, values in batch.columns.items()})
            for batch in opened.batches
            for i, number in enumerate(batch.rows)
        ]


@quick
@given(ROWS, st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_a_csv_file_is_read_as_it_was_written(rows: list[tuple[str, str]], delimiter: str, encoding: str) -> None:
    if ("text", "label") in rows:
        return  # a header that comes again is refused
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *rows])
    found = rows_in(written.getvalue().encode(encoding), "data.csv", delimiter=delimiter, header=True)
    assert found == [(i, {"text": text, "label": label}) for i, (text, label) in enumerate(rows, start=2)]


@quick
@given(OBJECTS)
def test_objects_a_line_and_in_a_list_are_read_as_they_were_written(objects: list[dict[str, Any]]) -> None:
    lines = "\n".join(json.dumps(one) for one in objects).encode()
    for content, name in ((lines, "data.jsonl"), (json.dumps(objects).encode(), "data.json")):
        found = rows_in(content, name)
        assert [number for number, _ in found] == list(range(1, len(objects) + 1))
        for (_, row), one in zip(found, objects, strict=True):
            assert {name: value for name, value in row.items() if value is not None} == {
                name: value for name, value in one.items() if value is not None
            }


@quick
@given(st.lists(st.tuples(TEXT, st.integers(-(2**31), 2**31)), min_size=1, max_size=30))
def test_a_parquet_file_is_read_as_it_was_written(rows: list[tuple[str, int]]) -> None:
    written = io.BytesIO()
    pq.write_table(pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]}), written)
    found = rows_in(written.getvalue(), "data.parquet")
    assert found == [(i, {"text": text, "label": label}) for i, (text, label) in enumerate(rows, start=1)]


@quick
@given(st.binary(min_size=1, max_size=400), st.sampled_from(["csv", "tsv", "jsonl", "json", "parquet", "", "txt"]))
def test_any_bytes_under_any_name_are_read_or_end_in_a_sentence(content: bytes, ending: str) -> None:
    with folder() as place:
        try:
            found = scanned(place, content, f"data.{ending}")
        except Unreadable as error:
            assert error.message.startswith("data.")
            assert error.message.endswith((".", "?"))
        else:
            assert found.rows >= 1
            assert found.model_dump_json()


@quick
@given(st.text('ab,";\n\r\t|{}[]:\0é', min_size=1, max_size=60), st.sampled_from(["csv", "tsv", "jsonl", "json"]))
def test_texts_full_of_marks_are_read_or_end_in_a_sentence(content: str, ending: str) -> None:
    with folder() as place:
        try:
            scanned(place, content.encode(), f"data.{ending}")
        except Unreadable as error:
            assert error.message.startswith("data.")


@quick
@given(st.data())
def test_a_file_that_is_cut_short_ends_in_a_sentence_or_has_fewer_rows(data: st.DataObject) -> None:
    written = io.BytesIO()
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(50)]}), written)
    objects = [{"text": f"text {i}", "label": i % 2} for i in range(50)]
    whole = data.draw(
        st.sampled_from([("data.parquet", written.getvalue()), ("data.json", json.dumps(objects).encode())])
    )
    cut = data.draw(st.integers(1, len(whole[1]) - 1))
    with folder() as place, pytest.raises(Unreadable):
        scanned(place, whole[1][:cut], whole[0])
