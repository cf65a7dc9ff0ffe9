"""Files that are not what they should be: each ends in a sentence that says where, or is read for what it is."""

import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.data.uploads import shown_name
from app.domain.errors import Invalid
from app.store.files.files import Files
from app.words.data.findings import with_message
from tests.support.ingested import scanned
from worker.ingest.readers.batches import Unreadable

ROWS = b"".join(b"a text %d,%s\n" % (i, b"yes" if i % 2 else b"no") for i in range(20))


def parquet(rows: int = 100) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table({"text": [f"text {i}" * 20 for i in range(rows)], "label": [0, 1] * (rows // 2)}), written)
    return written.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("data.csv", b"", "data.csv is empty."),
        ("data.csv", b" \n\n\t\n", "data.csv contains only white space."),
        ("data.csv", b"text,label\n", "data.csv has a header (text, label) but no rows below it."),
        (
            "data.csv",
            b"text,label\ntext,label\n" + ROWS,
            "data.csv: row 2 repeats the header; were two files joined? Remove it.",
        ),
        (
            "data.csv",
            b"text,label\n" + ROWS + b"text,label\n" + ROWS,
            "data.csv: row 22 repeats the header",
        ),
        (
            "data.csv",
            b"text,label,text\nx,y,z\n",
            "data.csv: columns 1 and 3 are both named 'text'. Rename one",
        ),
        ("data.csv", b"text,label\na,b\nc,\0\n", "data.csv: line 3 contains a NUL byte, so the file is damaged"),
        ("data.csv", "text,label\na,b\nc,\0\n".encode("utf-16"), "data.csv: line 3 contains a NUL character"),
        (
            "data.csv",
            b"text,label\na,b\nc\n",
            "data.csv: row 3 (it begins with 'c') has 1 of the 2 fields of the header, and no value for the column "
            "'label'.",
        ),
        (
            "data.csv",
            b'text,label\n"two\nlines",b\nc,d,e\n',
            "data.csv: row 3 (it begins with 'c') has 3 fields, and the header has 2. Put quotation marks around a "
            "text",
        ),
        (
            "data.csv",
            b'text,label\na,b\n"c,d\n' + ROWS,
            "data.csv: row 3 (line 23) cannot be read: a quoted field is not closed",
        ),
        (
            "data.csv",
            b'text,label\na,b\n"c"d,e\n',
            "data.csv: row 3 cannot be read: a quoted field contains a quotation",
        ),
        (
            "data.csv",
            b'{"text": "a", "label": 1}\n',
            "data.csv is named as CSV but contains lines of JSON. Rename it to .jsonl.",
        ),
        ("data.csv", b'[{"text": "a"}]', "data.csv is named as CSV but contains JSON. Rename it to .json."),
        ("data.csv", parquet(), "data.csv is named as CSV but is a Parquet file. Rename it to .parquet."),
        ("data.parquet", b"text,label\na,b\n", "data.parquet is named as Parquet but does not begin like"),
        ("data.parquet", parquet()[:-200], "data.parquet is damaged or truncated and cannot be read as Parquet"),
        ("data.parquet", b"PAR1", "data.parquet is damaged or truncated and cannot be read as Parquet"),
        (
            "data.jsonl",
            b"text,label\na,b\n",
            "data.jsonl is named as JSONL but begins with 'text,label",
        ),
        ("data.jsonl", b'{"text": "a"}\n[1, 2]\n', "data.jsonl: line 2 is a list, not an object"),
        ("data.jsonl", b'{"text": "a"}\n\n"b"\n', "data.jsonl: line 3 is a string, not an object"),
        (
            "data.jsonl",
            b'{"text": "a"}\n{"text": \n',
            "data.jsonl: line 2 is not valid JSON (expecting value, at character",
        ),
        ("data.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', "data.jsonl: line 2 contains an unpaired surrogate"),
        ("data.jsonl", b'{"a": ' * 100_000, "data.jsonl: line 1 nests objects and lists more than 100 levels deep"),
        ("data.jsonl", b'{"a": ' + b"9" * 5000 + b"}\n", "data.jsonl: line 1 has a number of thousands of digits"),
        ("data.jsonl", b"[\x80", "data.jsonl is not valid JSON: at its beginning,"),
        ("data.csv", b"\r" + b"x" * 70_000 + b",y\na,b\n", "has 2 fields, and the first row has 1"),
        ("data.json", b'{\n"text": "a"\n}', "data.json contains one object (fields: text) without a list of objects"),
        ("data.json", b'[{"text": "a"}, 3]', "data.json: element 2 is a number, not an object"),
        ("data.json", b'[{"text": "a"}, {"text": "b"', "data.json is not valid JSON: after element 1,"),
        ("data.xlsx", b"PK\x03\x04rest", "data.xlsx is a zip archive or an Excel workbook"),
        ("IMG_1.HEIC", b"\0\0\0\x18ftypheic\0\0", "IMG_1.HEIC is a single image. Put each image as JPEG or PNG into"),
        ("cat.webp", b"RIFF\x10\0\0\0WEBPVP8 ", "cat.webp is a single image"),
        ("cat.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "cat.jpg is a single image"),
        ("data.csv.gz", b"\x1f\x8b\x08rest", "data.csv.gz is compressed by gzip"),
    ],
)
def test_a_bad_file_is_a_sentence_with_its_place(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(sentence)) as refused:
        scanned(tmp_path, content, name)
    assert refused.value.message.endswith((".", "?"))
    assert refused.value.message.isprintable()


def test_a_parquet_file_with_a_damaged_page_says_how_far_it_could_be_read(tmp_path: Path) -> None:
    written = bytearray(parquet(20_000))
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
        scanned(tmp_path, parquet(), "data.parquet")


def test_a_wrong_delimiter_is_found_out_and_one_that_is_said_wrongly_is_refused(tmp_path: Path) -> None:
    content = b"text;label\n" + ROWS.replace(b",", b";")
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
    found = scanned(tmp_path, b"\n\r\ntext,label\n" + ROWS)
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


def test_a_field_of_200_000_characters_is_read_and_said(tmp_path: Path) -> None:
    found = scanned(tmp_path, b"text,label\n" + ROWS + b"x" * 200_000 + b",yes\n")
    assert found.columns[0].longest == 200_000
    [finding] = found.findings
    assert (finding.code, finding.column, finding.examples[0].row) == ("very-long-field", "text", 22)
    assert with_message(finding).message == "1 row has more than 100,000 characters in the column text (row 22)."


def test_emoji_and_right_to_left_text_are_texts_like_any_other(tmp_path: Path) -> None:
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


def test_an_upload_beyond_the_cap_is_refused_and_nothing_of_it_stays(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "store"))
    with pytest.raises(Invalid, match="4 MiB"), files.receive(4 << 20) as incoming:
        for _ in range(5):
            incoming.write(b"x" * (1 << 20))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    files = Files(str(tmp_path / "store"))
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
