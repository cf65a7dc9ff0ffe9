"""Words and tags in files of any kind: what is read, what is left out, and what blocks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.data.dataset import TaggedRow
from app.domain.data.findings import Finding
from app.domain.data.guesses.mapping import ColumnMapping
from tests.support.ingested import prepared, scanned
from worker.engine.data.batches.batches import read
from worker.ingest.rows.words import Broken, words_of

TAGGED = ColumnMapping(format="tagged", columns={"tokens": "tokens", "tags": "tags"})
NAMES = ["Ada", "Bo", "Cy", "Di", "Ed"]


def usual(count: int = 120) -> list[dict[str, Any]]:
    return [
        {"tokens": [NAMES[i % 5], "Lima", f"met{i}", "me"], "tags": ["B-PER", "I-PER", "O", "O"]} for i in range(count)
    ]


def jsonl(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    return {"data.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}


def by_code(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings}


def written(tmp_path: Path) -> list[TaggedRow]:
    rows = [row for rows in read(str(tmp_path / "rows.parquet"), "tagged").values() for row in rows]
    assert all(isinstance(row, TaggedRow) for row in rows)
    return rows  # type: ignore[return-value]


def csv(tokens: Any, tags: Any) -> bytes:
    def quoted(value: str) -> str:
        return '"' + value.replace('"', '""') + '"'

    lines = [f"{quoted(tokens(row['tokens']))},{quoted(tags(row['tags']))}\n" for row in usual()]
    return ("tokens,tags\n" + "".join(lines)).encode()


@pytest.mark.parametrize(
    "content",
    [
        jsonl(usual()),
        {"data.csv": csv(json.dumps, json.dumps)},
        {"data.csv": csv(str, str)},
        {"data.csv": csv(" ".join, " ".join)},
        {"data.csv": csv(lambda words: str(np.array(words)), lambda tags: str(np.array(tags, dtype=object)))},
    ],
    ids=["jsonl", "csv-json", "csv-python", "csv-spaces", "csv-numpy"],
)
def test_words_are_read_from_lists_and_texts(content: dict[str, bytes], tmp_path: Path) -> None:
    found = prepared(tmp_path, content)
    assert found.facts is not None and found.facts.labels == ["B-PER", "I-PER", "O"]
    assert sum(found.facts.counts.values()) == 120
    assert found.facts.label_counts == {"B-PER": 120, "I-PER": 120, "O": 240}, "words, not rows"
    row = next(row for row in written(tmp_path) if row.tokens[2] == "met7")
    assert (row.tokens, row.tags) == (["Cy", "Lima", "met7", "me"], [0, 1, 2, 2])
    assert found.facts.tasks == ["token-classification"]


def test_parquet_is_read_and_numbers_get_names(tmp_path: Path) -> None:
    rows = usual()
    numbers = [[{"B-PER": 1, "I-PER": 2, "O": 0}[tag] for tag in row["tags"]] for row in rows]
    pq.write_table(pa.table({"tokens": [row["tokens"] for row in rows], "ner_tags": numbers}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    guessed = scanned(tmp_path, content, "a.parquet").mapping
    assert guessed == ColumnMapping(format="tagged", columns={"tokens": "tokens", "tags": "ner_tags"})
    plain = prepared(tmp_path, {"a.parquet": content})
    assert by_code(plain.findings)["tags-are-numbers"].severity == "blocks" and plain.facts is None
    named = guessed.model_copy(update={"label_names": {"0": "O", "1": "B-PER", "2": "I-PER"}})
    found = prepared(tmp_path, {"a.parquet": content}, named)
    assert found.facts is not None and found.facts.labels == ["B-PER", "I-PER", "O"]
    assert "tags-are-numbers" not in by_code(found.findings)


def test_numbers_and_quotes_are_read_as_numpy_writes_them(tmp_path: Path) -> None:
    tags = str(np.array([3, 0, 7] * 30))
    words = str(np.array(["it's", 'say "hi"', "a b"] * 30))
    assert "\n" in tags and "\n" in words
    assert words_of(tags) == ["3", "0", "7"] * 30
    assert words_of(words) == ["it's", 'say "hi"', "a b"] * 30
    assert words_of("['EU' 'rejects' 'German']") == ["EU", "rejects", "German"]
    assert isinstance(words_of(str(np.arange(2000))), Broken), "numpy left words out"
    assert words_of("[ Applause ]") == ["[", "Applause", "]"]


def test_rows_whose_words_and_tags_do_not_match_are_left_out_and_named(tmp_path: Path) -> None:
    odd = [
        {"tokens": ["Ada", "met"], "tags": ["B-PER"]},
        {"tokens": ["Ada", "met"], "tags": ["O", "I-PER"]},
        {"tokens": ["Ada", " "], "tags": ["B-PER", "O"]},
        {"tokens": [["Ada"]], "tags": ["B-PER"]},
        {"tokens": [], "tags": []},
    ]
    found = prepared(tmp_path, jsonl([*odd, *usual()]), TAGGED)
    codes = by_code(found.findings)
    assert {code: codes[code].count for code in ("tags-mismatch", "broken-tags", "broken-words", "empty-rows")} == {
        "tags-mismatch": 1,
        "broken-tags": 1,
        "broken-words": 2,
        "empty-rows": 1,
    }
    assert all(codes[code].severity == "warns" for code in ("tags-mismatch", "broken-tags", "broken-words"))
    assert codes["tags-mismatch"].examples[0].row == 1 and "2 ≠ 1" in codes["tags-mismatch"].examples[0].excerpt
    assert found.facts is not None and sum(found.facts.counts.values()) == 120


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IOB1", ["I-PER", "I-PER", "O", "I-ORG"]),
        ("IOBES", ["B-PER", "E-PER", "O", "S-ORG"]),
        ("BILOU", ["B-PER", "L-PER", "O", "U-ORG"]),
    ],
)
def test_tags_of_other_schemes_are_converted(scheme: str, tags: list[str], tmp_path: Path) -> None:
    rows = [{"tokens": ["we", "met"], "tags": ["O", "O"]}, *(row | {"tags": tags} for row in usual())]
    found = prepared(tmp_path, jsonl(rows), TAGGED)
    assert found.facts is not None and found.facts.label_counts == {"B-ORG": 120, "B-PER": 120, "I-PER": 120, "O": 122}
    row = next(row for row in written(tmp_path) if row.tokens[2] == "met7")
    assert [found.facts.labels[tag] for tag in row.tags] == ["B-PER", "I-PER", "O", "B-ORG"]
    for findings in (found.findings, scanned(tmp_path, jsonl(rows)["data.jsonl"], "data.jsonl").findings):
        note = by_code(findings)["tags-converted"]
        assert (note.severity, note.count, note.column, note.details.scheme) == ("notes", 120, "tags", scheme)
        assert note.examples[0].row == 2 and len(note.examples) == 10
        assert note.examples[0].excerpt == f"{' '.join(tags)} → B-PER I-PER O B-ORG"
        assert not {"broken-tags", "tag-scheme"} & by_code(findings).keys()


def test_the_scheme_is_that_of_all_files_and_of_the_names_of_numbers(tmp_path: Path) -> None:
    ends = [row | {"tags": [1, 2, 0, 0]} for row in usual()]
    single = [{"tokens": [f"x{i}"], "tags": [3]} for i in range(20)]
    files = {"train.jsonl": jsonl(ends)["data.jsonl"], "test.jsonl": jsonl(single)["data.jsonl"]}
    names = {"0": "O", "1": "B-PER", "2": "L-PER", "3": "U-PER"}
    found = prepared(tmp_path, files, TAGGED.model_copy(update={"label_names": names}))
    assert found.facts is not None and found.facts.labels == ["B-PER", "I-PER", "O"]
    note = by_code(found.findings)["tags-converted"]
    assert (note.count, note.examples[0].file, note.details.scheme) == (140, "train.jsonl", "BILOU")


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        (["B-PER", "E-PER", "U-ORG", "O"], "tag-scheme"),  # of two schemes
        (["B-PER", "O", "S-ORG", "O"], "tag-scheme"),  # IOBES has S-PER there
        (["I-PER", "O", "B-PER", "I-PER"], "broken-tags"),  # IOB1 and IOB2
        (["I-PER", "E-PER", "O", "O"], "broken-tags"),  # IOE2, which is not converted
    ],
)
def test_a_mixture_of_schemes_blocks_by_name(tags: list[str], code: str, tmp_path: Path) -> None:
    found = prepared(tmp_path, jsonl([row | {"tags": tags} for row in usual()]), TAGGED)
    assert found.facts is None and by_code(found.findings)[code].severity == "blocks"
    assert "tags-converted" not in by_code(found.findings)


def test_one_row_of_another_scheme_among_many_blocks(tmp_path: Path) -> None:
    rows = [row | {"tags": ["B-PER", "L-PER", "O", "U-ORG"]} for row in usual()]
    rows.append({"tokens": ["Ada", "met"], "tags": ["B-PER", "O"]})
    found = by_code(prepared(tmp_path, jsonl(rows), TAGGED).findings)["tag-scheme"]
    assert (found.severity, found.count, found.details.labels) == ("blocks", 2, ["L-PER", "U-ORG"])


def test_outside_in_another_word_blocks(tmp_path: Path) -> None:
    """Otherwise every word outside of entities would be one."""
    plain = [row | {"tags": ["B-PER", "I-PER", "_", "_"]} for row in usual()]
    found = by_code(prepared(tmp_path, jsonl(plain), TAGGED).findings)["tag-scheme"]
    assert (found.severity, found.details.labels) == ("blocks", ["_"])
    named = TAGGED.model_copy(update={"label_names": {"_": "O"}})
    assert prepared(tmp_path, jsonl(plain), named).facts is not None


@pytest.mark.parametrize(("broken", "severity"), [(6, "warns"), (7, "blocks")])
def test_iob1_beside_iob2_among_sentences_without_entities_blocks(broken: int, severity: str, tmp_path: Path) -> None:
    """More than 5 % of the rows with entities, however many rows have none."""
    none = [{"tokens": ["we", f"met{i}"], "tags": ["O", "O"]} for i in range(300)]
    iob1 = [{"tokens": [f"Ada{i}", "met"], "tags": ["I-PER", "O"]} for i in range(broken)]
    found = by_code(prepared(tmp_path, jsonl([*none, *iob1, *usual()]), TAGGED).findings)["broken-tags"]
    assert (found.count, found.severity) == (broken, severity)


def test_a_tag_that_only_the_test_split_has_and_texts_tagged_twice_are_told(tmp_path: Path) -> None:
    twice = {"tokens": ["we", "met"], "tags": ["O", "O"]}, {"tokens": ["we", "met"], "tags": ["B-PER", "O"]}
    train = jsonl([*twice, *usual()])["data.jsonl"]
    test = jsonl([{"tokens": [f"x{i}"], "tags": ["B-ORG"]} for i in range(20)])["data.jsonl"]
    findings = by_code(prepared(tmp_path, {"train.jsonl": train, "test.jsonl": test}, TAGGED).findings)
    assert (
        findings["label-not-trained"].details.labels == ["B-ORG"] and findings["label-not-trained"].severity == "warns"
    )
    assert findings["contradictions"].count == 1
    assert "imbalance" not in findings, "outside is always common"


def test_the_same_rows_in_another_order_have_the_same_tags(tmp_path: Path) -> None:
    rows = [*usual(), *({"tokens": [f"in{i}", "Rome"], "tags": ["O", "B-LOC"]} for i in range(40))]
    first, other = (prepared(tmp_path, jsonl(order), TAGGED).facts for order in (rows, rows[::-1]))
    assert first is not None and other is not None and first.labels == other.labels == ["B-LOC", "B-PER", "I-PER", "O"]
    assert first.label_counts == other.label_counts
