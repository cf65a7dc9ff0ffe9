"""Files that are unusual, bad or drawn at random: read for what they are, or refused in a sentence."""

import csv
import io
import json
import re
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

from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.uploads import ReadingOptions, shown_name
from app.domain.errors import Invalid
from app.store.files.files import Files as StoredFiles
from app.words.data.findings import with_message
from tests.support.ingested import local, prepared, scanned
from worker.ingest.readers import parquet
from worker.ingest.readers.batches import BATCH_CHARACTERS, Unreadable
from worker.ingest.readers.files import Files

ROWS = [{"text": f"a text {i}", "label": "yes" if i % 2 else "no"} for i in range(20)]


def test_lists_and_lines_of_objects_are_read_whatever_their_length(tmp_path: Path) -> None:
    for content in (json.dumps({"version": 1, "data": ROWS}), json.dumps({"data": ROWS, "licence": ["MIT"]}, indent=2)):
        found = scanned(tmp_path, content.encode(), "data.json")
        assert (found.kind, found.rows, [c.name for c in found.columns]) == ("json", 20, ["text", "label"])
    wide = scanned(tmp_path, json.dumps({"Zeilen": ROWS}, ensure_ascii=False).encode("utf-16"), "data.json")
    assert wide.rows == 20
    lines = [json.dumps(row | {"messages": [{"role": "user", "content": "x" * 5000}]}) for row in ROWS]
    found = scanned(tmp_path, "\n".join(lines).encode(), "data.json")
    assert (found.kind, found.rows) == ("jsonl", 20)
    with pytest.raises(Unreadable, match=r"data\.json: line 3 is not valid JSON"):
        scanned(tmp_path, "\n".join([*lines[:2], '{"text": ']).encode(), "data.json")
    with pytest.raises(Unreadable, match=r"data\.json: line 1 is not valid JSON"):
        scanned(tmp_path, b'{"text" "a"}\n{"text": "b"}\n', "data.json")
    cut = json.dumps({"data": ROWS}).encode()[:-30]
    with pytest.raises(Unreadable, match=r"data\.json is not valid JSON: after element 19,"):
        scanned(tmp_path, cut, "data.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {"train": ROWS, "test": ROWS},
            "data.json contains one object with several lists of objects (train, test). Put each list into its own",
        ),
        (
            {"text": {"0": "a"}, "label": {"0": "b"}},
            "data.json contains one object (fields: text, label) without a list of objects. Vezna reads a list of",
        ),
        ({}, "data.json contains one object (fields: none) without a list of objects"),
        ({"data": [{"text": "a"}, 3]}, "data.json: element 2 is a number, not an object"),
    ],
)
def test_an_object_without_one_list_of_rows_is_told_what_to_do(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(sentence)):
        scanned(tmp_path, json.dumps(content).encode(), "data.json")


@pytest.mark.parametrize("encoding", ["utf-32", "utf-32-le", "utf-32-be", "utf-16-be"])
@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.csv"])
def test_wide_letters_are_read_in_json_and_csv(tmp_path: Path, encoding: str, name: str) -> None:
    if name == "data.csv":
        content = "text,label\n" + "".join(f"{row['text']} Größe,{row['label']}\n" for row in ROWS)
    elif name == "data.json":
        content = json.dumps(ROWS)
    else:
        content = "\n".join(map(json.dumps, ROWS))
    found = scanned(tmp_path, content.encode(encoding), name)
    assert (found.rows, found.encoding, found.columns[1].distinct) == (20, encoding, 2)


@pytest.mark.parametrize(("opens", "closes"), [('{"a": ', "}"), ("[", "]")])
@pytest.mark.parametrize("depth", [150, 990, 100_000])
@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "nested.json"])
def test_deep_nesting_is_a_sentence(tmp_path: Path, name: str, depth: int, opens: str, closes: str) -> None:
    deep = f'{{"text": "a", "more": {opens * depth}1{closes * depth}}}'
    content = {
        "data.jsonl": f"{deep}\n{deep}",
        "data.json": f"[{deep}, {deep}]",
        "nested.json": f'{{"data": [{deep}]}}',
    }
    where = "line 1" if name == "data.jsonl" else "element 1"
    with pytest.raises(Unreadable, match=rf"{name}: {where} nests objects and lists more than 100 levels deep"):
        scanned(tmp_path, content[name].encode(), name)


def test_what_is_nested_a_little_is_read(tmp_path: Path) -> None:
    deep = f'{{"text": "a", "more": {"[" * 90}1{"]" * 90}}}'
    assert scanned(tmp_path, f"{deep}\n{deep}".encode(), "data.jsonl").rows == 2


@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
def test_too_many_different_fields_are_said_as_soon_as_they_are_met(tmp_path: Path, name: str) -> None:
    rows = [json.dumps({f"field {i} {j}": 1 for j in range(10)}) for i in range(100)]
    content = "\n".join([*rows, "broken"]) if name == "data.jsonl" else f"[{', '.join([*rows, 'broken'])}]"
    where = "line" if name == "data.jsonl" else "element"
    expected = rf"{name}: up to {where} 51 there are 510 different fields, and Vezna reads at most 500"
    with pytest.raises(Unreadable, match=expected):
        scanned(tmp_path, content.encode(), name)


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_first_line_by_which_excel_is_told_the_delimiter_is_no_row(tmp_path: Path, first: str) -> None:
    rows = "".join(f"one, two {i};{'yes' if i % 2 else 'no'}\r\n" for i in range(20))
    found = scanned(tmp_path, f"{first}\r\ntext;label\r\n{rows}".encode("utf-8-sig"))
    assert (found.delimiter, found.rows, [c.name for c in found.columns]) == (";", 20, ["text", "label"])
    made = prepared(tmp_path, f"{first}\r\ntext;label\r\n{rows}".encode())
    assert made.facts and sum(made.facts.counts.values()) == 20
    with pytest.raises(Unreadable, match=r"row 3 .* has 1 of the 2 fields of the header"):  # as Excel counts
        scanned(tmp_path, f"{first}\r\ntext;label\r\na;b\r\nc\r\n".encode())
    with pytest.raises(Unreadable, match=r"row 3 \(line 4\) cannot be read"):
        scanned(tmp_path, f'{first}\r\ntext;label\r\na;b\r\n"c;d\r\n'.encode())
    with pytest.raises(Unreadable, match=r"contains only white space below its first line\."):
        scanned(tmp_path, f"{first}\r\n".encode())


def test_a_delimiter_that_excel_is_told_and_vezna_does_not_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"its first line names the delimiter '\^', and Vezna reads files"):
        scanned(tmp_path, b"sep=^\ntext^label\na^b\n")


def test_preferences_are_recognized_with_and_without_a_prompt(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    answers = {"chosen": "chosen", "rejected": "rejected"}
    cases = [
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, "preference", {"prompt": "prompt", **answers}),
        ({"chosen": "c", "rejected": "r", "id": 1}, "preference", answers),
        ({"chosen": turns, "rejected": turns}, "preference-messages", answers),
        (
            {"prompt": turns[:1], "chosen": turns[1:], "rejected": turns[1:]},
            "preference-messages",
            {"prompt": "prompt", **answers},
        ),
    ]
    for row, form, columns in cases:
        found = scanned(tmp_path, "\n".join([json.dumps(row)] * 3).encode(), "data.jsonl")
        assert found.mapping == ColumnMapping.model_validate({"format": form, "columns": columns})


def test_a_conversation_that_is_very_long_is_said(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "x" * 60_000}, {"role": "assistant", "content": "y" * 60_000}]
    lines = [{"messages": turns[:1]}, {"messages": turns}]
    [finding] = scanned(tmp_path, "\n".join(map(json.dumps, lines)).encode(), "data.jsonl").findings
    assert (finding.code, finding.column, [e.row for e in finding.examples]) == ("very-long-field", "messages", [2])


def batches_of(folder: Path, content: bytes) -> list[tuple[int, int]]:
    """Rows and characters of each batch."""
    parts = local(folder, {"data.parquet": content})
    opened = Files(parts, ReadingOptions(), lambda share, rows: None).open(parts[0])
    return [(len(batch.rows), sum(map(len, batch.columns["text"]))) for batch in opened.batches]


@pytest.mark.parametrize("dictionary", [True, False])
def test_long_texts_of_parquet_come_few_at_a_time(tmp_path: Path, dictionary: bool) -> None:
    written = io.BytesIO()
    texts = ["short"] * 6000 + ["x" * (1 << 20)] * 70 + ["short"] * 30
    pq.write_table(pa.table({"text": texts}), written, use_dictionary=dictionary)
    found = batches_of(tmp_path, written.getvalue())
    assert sum(rows for rows, _characters in found) == 6100
    assert max(rows for rows, _characters in found) < 5000 + parquet._DECODED_ROWS
    assert max(characters for _rows, characters in found) <= 2 * BATCH_CHARACTERS


def test_long_elements_of_json_come_few_at_a_time(tmp_path: Path) -> None:
    parts = local(tmp_path, {"data.json": json.dumps([{"text": "x" * (1 << 20)}] * 20).encode()})
    opened = Files(parts, ReadingOptions(), lambda share, rows: None).open(parts[0])
    assert [len(batch.rows) for batch in opened.batches] == [4, 4, 4, 4, 4]


TEXTS = {
    "Portuguese": ("cp1252", "Não há razão para que a informação não seja útil às pessoas; são três opções."),
    "Portuguese, one word": ("cp1252", "não"),
    "Swedish": ("cp1252", "Han står på vägen och går över ån när båten är här."),
    "Swedish, one word": ("cp1252", "på"),
    "Danish": ("cp1252", "Rødgrød med fløde på en blå ø er også så sød."),
    "French": ("cp1252", "L’été dernier, nous avons mangé à la forêt où l’évêque, très âgé, était déjà."),
    "German": ("cp1252", "Die Straße führt über größere Brücken zu schönen Häusern."),
    "Spanish": ("cp1252", "¿Dónde está el niño? Mañana también habrá más canción."),
    "Italian": ("cp1252", "Perché la città è più bella, ma non può essere così."),
    "Polish": ("cp1250", "Zażółć gęślą jaźń, a później idź do łóżka, bo już śpią."),
    "Czech": ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy, když přišel večer."),
    "Hungarian": ("cp1250", "Az idő múlik, a nők és a fiúk erős tűznél ülnek, őszi hűvös estén."),
    "Romanian": ("cp1250", "Fetiţa aşteaptă în faţa casei şi vede că plouă."),
    "Turkish": ("cp1254", "Öğrenciler yağmurlu günde sınıfta kalıp ağaçları çiziyor, şarkı söylüyor."),
    "Lithuanian": ("cp1257", "Žąsys skrenda į šiltą kraštą, o žmonės lieka čia ir laukia žiemos."),
    "Russian": ("cp1251", "Съешь ещё этих мягких французских булок, да выпей чаю. Это было вчера вечером."),
}


@pytest.mark.parametrize("language", TEXTS)
def test_a_text_is_read_with_the_letters_of_its_language(tmp_path: Path, language: str) -> None:
    encoding, text = TEXTS[language]
    content = "\n".join(["text,label", *(f'"{text}",{"ab"[n % 2]}' for n in range(12))])
    scan = scanned(tmp_path, content.encode(encoding))
    assert scan.columns[0].examples[0] == text


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


def test_labels_of_nan_are_left_out_named_and_not_confused_with_text(tmp_path: Path) -> None:
    rows = labelled(["0.5", "1.5"] * 60 + ["NaN", "Infinity", "-Infinity"])
    found = prepared(tmp_path, {"data.jsonl": written("data.jsonl", rows)}, LABELLED)
    [finding] = [f for f in found.findings if f.code == "not-a-number"]
    assert (finding.severity, finding.count, finding.column) == ("warns", 3, "label")
    assert [(e.row, e.excerpt) for e in finding.examples] == [(121 + i, f"text number {120 + i}") for i in range(3)]
    assert found.facts and found.facts.label_counts == {"0.5": 60, "1.5": 60}
    named = LABELLED.model_copy(update={"label_names": {"nan": "unknown", "inf": "unknown", "-inf": "unknown"}})
    found = prepared(tmp_path, {"data.jsonl": written("data.jsonl", rows)}, named)
    assert found.facts and found.facts.label_counts == {"0.5": 60, "1.5": 60, "unknown": 3}
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


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=40)
"""Without carriage returns: whether one is an end of line is for whoever writes to choose."""
DRAWN_ROWS = st.lists(st.tuples(LINES, LINES), min_size=1, max_size=30)
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
@given(DRAWN_ROWS, st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
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


BAD_ROWS = b"".join(b"a text %d,%s\n" % (i, b"yes" if i % 2 else b"no") for i in range(20))


def parquet_bytes(rows: int = 100) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table({"text": [f"text {i}" * 20 for i in range(rows)], "label": [0, 1] * (rows // 2)}), written)
    return written.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("data.csv", b"", " is empty."),
        ("data.csv", b" \n\n\t\n", " contains only white space."),
        ("data.csv", b"text,label\n", " has a header (text, label) but no rows below it."),
        (
            "data.csv",
            b"text,label\ntext,label\n" + BAD_ROWS,
            ": row 2 repeats the header; were two files joined? Remove it.",
        ),
        ("data.csv", b"text,label\n" + BAD_ROWS + b"text,label\n" + BAD_ROWS, ": row 22 repeats the header"),
        ("data.csv", b"text,label,text\nx,y,z\n", ": columns 1 and 3 are both named 'text'. Rename one"),
        ("data.csv", b"text,label\na,b\nc,\0\n", ": line 3 contains a NUL byte, so the file is damaged"),
        ("data.csv", "text,label\na,b\nc,\0\n".encode("utf-16"), ": line 3 contains a NUL character"),
        (
            "data.csv",
            b"text,label\na,b\nc\n",
            ": row 3 (it begins with 'c') has 1 of the 2 fields of the header, and no value for the column 'label'.",
        ),
        (
            "data.csv",
            b'text,label\n"two\nlines",b\nc,d,e\n',
            ": row 3 (it begins with 'c') has 3 fields, and the header has 2. Put quotation marks around a text",
        ),
        (
            "data.csv",
            b'text,label\na,b\n"c,d\n' + BAD_ROWS,
            ": row 3 (line 23) cannot be read: a quoted field is not closed",
        ),
        ("data.csv", b'text,label\na,b\n"c"d,e\n', ": row 3 cannot be read: a quoted field contains a quotation"),
        (
            "data.csv",
            b'{"text": "a", "label": 1}\n',
            " is named as CSV but contains lines of JSON. Rename it to .jsonl.",
        ),
        ("data.csv", b'[{"text": "a"}]', " is named as CSV but contains JSON. Rename it to .json."),
        ("data.csv", parquet_bytes(), " is named as CSV but is a Parquet file. Rename it to .parquet."),
        ("data.parquet", b"text,label\na,b\n", " is named as Parquet but does not begin like"),
        ("data.parquet", parquet_bytes()[:-200], " is damaged or truncated and cannot be read as Parquet"),
        ("data.parquet", b"PAR1", " is damaged or truncated and cannot be read as Parquet"),
        ("data.jsonl", b"text,label\na,b\n", " is named as JSONL but begins with 'text,label"),
        ("data.jsonl", b'{"text": "a"}\n[1, 2]\n', ": line 2 is a list, not an object"),
        ("data.jsonl", b'{"text": "a"}\n\n"b"\n', ": line 3 is a string, not an object"),
        ("data.jsonl", b'{"text": "a"}\n{"text": \n', ": line 2 is not valid JSON (expecting value, at character"),
        ("data.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', ": line 2 contains an unpaired surrogate"),
        ("data.jsonl", b'{"a": ' * 100_000, ": line 1 nests objects and lists more than 100 levels deep"),
        ("data.jsonl", b'{"a": ' + b"9" * 5000 + b"}\n", ": line 1 has a number of thousands of digits"),
        ("data.jsonl", b"[\x80", " is not valid JSON: at its beginning,"),
        ("data.csv", b"\r" + b"x" * 70_000 + b",y\na,b\n", "has 2 fields, and the first row has 1"),
        ("data.json", b'{\n"text": "a"\n}', " contains one object (fields: text) without a list of objects"),
        ("data.json", b'[{"text": "a"}, 3]', ": element 2 is a number, not an object"),
        ("data.json", b'[{"text": "a"}, {"text": "b"', " is not valid JSON: after element 1,"),
        ("data.xlsx", b"PK\x03\x04rest", " is a zip archive or an Excel workbook"),
        ("IMG_1.HEIC", b"\0\0\0\x18ftypheic\0\0", " is a single image. Put each image as JPEG or PNG into"),
        ("cat.webp", b"RIFF\x10\0\0\0WEBPVP8 ", " is a single image"),
        ("cat.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", " is a single image"),
        ("data.csv.gz", b"\x1f\x8b\x08rest", " is compressed by gzip"),
    ],
)
def test_a_bad_file_is_a_sentence_with_its_place(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(sentence)) as refused:
        scanned(tmp_path, content, name)
    assert refused.value.message.startswith(name) and refused.value.message.endswith((".", "?"))
    assert refused.value.message.isprintable()


def test_a_parquet_file_with_a_damaged_page_says_how_far_it_could_be_read(tmp_path: Path) -> None:
    written = bytearray(parquet_bytes(20_000))
    middle = len(written) // 2
    written[middle - 5000 : middle + 5000] = b"\xff" * 10_000
    with pytest.raises(Unreadable, match=r"damaged or truncated .* rows could be read\."):
        scanned(tmp_path, bytes(written), "data.parquet")


def columns_of(**columns: pa.Array) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table(columns), written)
    return written.getvalue()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            pa.array([0, 2**62], pa.timestamp("us")),
            "has a value in the column text that Python cannot represent (date value",
        ),
        (pa.array([0, 2**31 - 1], pa.date32()), "has a value in the column text that Python cannot represent"),
        (
            pa.StringArray.from_buffers(2, pa.array([0, 1, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff\xfe")),
            "has a text in the column text that is not UTF-8",
        ),
    ],
)
def test_parquet_values_beyond_python_are_named(tmp_path: Path, values: pa.Array, sentence: str) -> None:
    expected = re.escape(f"data.parquet: row 2 {sentence}")
    with pytest.raises(Unreadable, match=expected):
        scanned(tmp_path, columns_of(text=values), "data.parquet")


def test_too_large_a_parquet_file_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object, **__: object) -> None:
        raise pa.lib.ArrowMemoryError("malloc of size 10000000000 failed")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", too_much)
    with pytest.raises(MemoryError):
        scanned(tmp_path, parquet_bytes(), "data.parquet")


def test_a_wrong_delimiter_is_found_out_and_one_that_is_said_wrongly_is_refused(tmp_path: Path) -> None:
    content = b"text;label\n" + BAD_ROWS.replace(b",", b";")
    found = scanned(tmp_path, content)
    assert (found.delimiter, [column.name for column in found.columns]) == (";", ["text", "label"])
    assert scanned(tmp_path, content, "data.tsv").delimiter == ";"
    with pytest.raises(Unreadable, match="its first row contains no comma, but contains a semicolon"):
        scanned(tmp_path, content, delimiter=",")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
def test_wide_encodings_and_marks_are_read_for_what_they_are(tmp_path: Path, encoding: str) -> None:
    text = "text,label\n" + "".join(f"Größe {i} — ok,ja\n" for i in range(30))
    found = scanned(tmp_path, text.encode(encoding))
    assert found.columns[0].name == "text"
    assert found.columns[0].examples[0] == "Größe 0 — ok"
    assert found.findings == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_a_list_of_objects_is_read_in_other_encodings_too(tmp_path: Path, encoding: str) -> None:
    text = "[" + ",\n".join(f'{{"text": "Größe {i} — ok", "label": "ja"}}' for i in range(5000)) + "]"
    found = scanned(tmp_path, text.encode(encoding), "data.json")
    assert found.rows == 5000
    assert found.columns[0].examples[0] == "Größe 0 — ok"
    assert scanned(tmp_path, '[{"text": "Größe"}]'.encode("latin-1"), "data.json", encoding="latin-1").rows == 1


@pytest.mark.parametrize(
    ("encoding", "half"), [("utf-7", b"+2AA-"), ("unicode_escape", b"\\ud800"), ("raw_unicode_escape", b"\\ud800")]
)
def test_half_characters_that_a_decoder_makes_are_refused(tmp_path: Path, encoding: str, half: bytes) -> None:
    with pytest.raises(Unreadable, match="line 3 contains an unpaired surrogate"):
        scanned(tmp_path, b"text,label\na,b\nc," + half + b"\n", encoding=encoding)


def test_blank_lines_before_the_header_are_no_rows(tmp_path: Path) -> None:
    found = scanned(tmp_path, b"\n\r\ntext,label\n" + BAD_ROWS)
    assert (found.rows, found.columns[0].examples[0]) == (20, "a text 0")
    assert found.columns[1].values == {"no": 10, "yes": 10}
    with pytest.raises(Unreadable, match=r"row 5 \(it begins with 'c'\) has 1 of the 2 fields"):
        scanned(tmp_path, b"\n\ntext,label\na,b\nc\n")


def test_latin_1_is_read_by_what_its_bytes_look_like_and_said_with_rows_to_look_at(tmp_path: Path) -> None:
    text = "text,label\n" + "".join(f"Das Mädchen hört schöne Grüße Nummer {i},fröhlich\n" for i in range(50))
    found = scanned(tmp_path, text.encode("latin-1"))
    assert found.columns[0].examples[0] == "Das Mädchen hört schöne Grüße Nummer 0"
    finding = found.findings[0]
    assert (finding.code, finding.severity, finding.column, finding.count) == ("encoding", "warns", "text", 50)
    assert finding.examples[0].row == 2
    assert "Grüße" in finding.examples[0].excerpt
    told = scanned(tmp_path, text.encode("latin-1"), encoding="latin-1")
    assert (told.encoding, told.findings) == ("latin-1", [])
    with pytest.raises(Unreadable, match=r"not valid utf-8 \(byte 0xe4\)\. Choose another encoding"):
        scanned(tmp_path, text.encode("latin-1"), encoding="utf-8")


def test_very_large_fields_emoji_and_right_to_left_text_are_read(tmp_path: Path) -> None:
    found = scanned(tmp_path, b"text,label\n" + BAD_ROWS + b"x" * 200_000 + b",yes\n")
    assert found.columns[0].longest == 200_000
    [finding] = found.findings
    assert (finding.code, finding.column, finding.examples[0].row) == ("very-long-field", "text", 22)
    assert with_message(finding).message == "1 row has more than 100,000 characters in the column text (row 22)."
    text = "النص,الفئة\n" + "".join(f"مرحبا 👩‍🔬 {i},{'👍' if i % 2 else '👎'}\n" for i in range(20))
    found = scanned(tmp_path, text.encode())
    assert [column.name for column in found.columns] == ["النص", "الفئة"]
    assert found.columns[1].values == {"👎": 10, "👍": 10}
    assert found.findings == []
    assert found.mapping is None
    assert "النص, الفئة" in found.reason


def test_formulas_and_control_characters_are_said_with_their_rows(tmp_path: Path) -> None:
    found = scanned(tmp_path, b'text,label\n=1+1,a\n"=cmd|x",b\n-5,a\nbell\x07,b\n')
    assert [(f.code, f.severity, [e.row for e in f.examples]) for f in found.findings] == [
        ("formulas", "notes", [2, 3]),
        ("control-characters", "warns", [5]),
    ]
    assert found.findings[1].examples[0].excerpt == "bell\\x07"


def test_refused_and_unfinished_uploads_leave_nothing(tmp_path: Path) -> None:
    files = StoredFiles(str(tmp_path / "store"))
    with pytest.raises(Invalid, match="4 MiB"), files.receive(4 << 20) as incoming:
        for _ in range(5):
            incoming.write(b"x" * (1 << 20))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(KeyboardInterrupt), files.receive(100) as incoming:
        incoming.write(b"half")
        raise KeyboardInterrupt
    with files.receive(100) as incoming:
        incoming.write(b"half")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\x.csv", "x.csv"),
        ("..", "file"),
        ("a\0b\u202e.csv", "ab.csv"),
        ("", "file"),
        ("/" * 300, "file"),
    ],
)
def test_a_name_is_shown_and_leads_nowhere(given: str, shown: str) -> None:
    assert shown_name(given) == shown
