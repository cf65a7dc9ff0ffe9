"""Unusual files: JSON in many forms, alphabets, delimiters, and values that JSON has no type for."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.uploads import ReadingOptions
from tests.support.ingested import local, prepared, scanned
from worker.ingest.readers import parquet
from worker.ingest.readers.batches import BATCH_CHARACTERS, Unreadable
from worker.ingest.readers.files import Files

ROWS = [{"text": f"a text {i}", "label": "yes" if i % 2 else "no"} for i in range(20)]


def test_a_list_of_objects_in_an_object_is_read(tmp_path: Path) -> None:
    for content in (json.dumps({"version": 1, "data": ROWS}), json.dumps({"data": ROWS, "licence": ["MIT"]}, indent=2)):
        found = scanned(tmp_path, content.encode(), "data.json")
        assert (found.kind, found.rows, [c.name for c in found.columns]) == ("json", 20, ["text", "label"])
    wide = scanned(tmp_path, json.dumps({"Zeilen": ROWS}, ensure_ascii=False).encode("utf-16"), "data.json")
    assert wide.rows == 20


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


def test_a_list_in_an_object_that_is_cut_short_says_after_which_element(tmp_path: Path) -> None:
    cut = json.dumps({"data": ROWS}).encode()[:-30]
    with pytest.raises(Unreadable, match=r"data\.json is not valid JSON: after element 19,"):
        scanned(tmp_path, cut, "data.json")


def test_lines_of_objects_under_the_name_of_json_are_lines_whatever_their_length(tmp_path: Path) -> None:
    lines = [json.dumps(row | {"messages": [{"role": "user", "content": "x" * 5000}]}) for row in ROWS]
    found = scanned(tmp_path, "\n".join(lines).encode(), "data.json")
    assert (found.kind, found.rows) == ("jsonl", 20)
    with pytest.raises(Unreadable, match=r"data\.json: line 3 is not valid JSON"):
        scanned(tmp_path, "\n".join([*lines[:2], '{"text": ']).encode(), "data.json")
    with pytest.raises(Unreadable, match=r"data\.json: line 1 is not valid JSON"):
        scanned(tmp_path, b'{"text" "a"}\n{"text": "b"}\n', "data.json")


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
