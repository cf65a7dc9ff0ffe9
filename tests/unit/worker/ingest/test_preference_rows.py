"""Rows of preferences and of tags: guessed, mapped, written, and what is left out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.domain.data.dataset import PreferenceChatRow, PreferenceRow, TaggedRow
from app.domain.data.findings import Finding
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.tasks import Format
from tests.support.ingested import by_code, lines, prepared, scanned
from worker.engine.data.batches.batches import read
from worker.ingest.rows.columns import Broken, words_of
from worker.ingest.rows.rows import chat_pair, text_pair

PLAIN = ColumnMapping(format="preference", columns={"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"})
WITHOUT = ColumnMapping(format="preference", columns={"chosen": "chosen", "rejected": "rejected"})
CHATS = ColumnMapping(format="preference-messages", columns={"chosen": "chosen", "rejected": "rejected"})


def usual(count: int = 120) -> list[dict[str, Any]]:
    """Answers of equal length."""
    return [{"prompt": f"ask {i}", "chosen": f"yes {i}", "rejected": f"no! {i}"} for i in range(count)]


def jsonl(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    return {"data.jsonl": lines(rows)}


def mapped(folder: Path, rows: list[dict[str, Any]]) -> ColumnMapping | None:
    folder.mkdir(exist_ok=True)
    return scanned(folder, lines(rows), "data.jsonl").mapping


def written(tmp_path: Path, form: Format) -> list[Any]:
    return [row for rows in read(str(tmp_path / "rows.parquet"), form).values() for row in rows]


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]


def test_columns_are_guessed_and_rows_written(tmp_path: Path) -> None:
    assert mapped(tmp_path / "scan", usual()) == PLAIN
    found = prepared(tmp_path, jsonl(usual()), PLAIN)
    assert (
        found.facts is not None
        and found.facts.tasks == ["preference"]
        and {finding.code for finding in found.findings} <= {"too-few-rows"}
    )
    rows = written(tmp_path, "preference")
    assert len(rows) == 120 and all(isinstance(row, PreferenceRow) for row in rows)
    assert {row.prompt: (row.chosen, row.rejected) for row in rows}["ask 7"] == ("yes 7", "no! 7")


@pytest.mark.parametrize("column", ["question", "instruction", ""])
def test_other_names_and_no_prompt_are_guessed(tmp_path: Path, column: str) -> None:
    rows = [{column or "x": f"ask {i}", "chosen": f"yes {i}", "rejected": f"no! {i}"} for i in range(20)]
    mapping = mapped(tmp_path, rows)
    assert mapping is not None and mapping.format == "preference" and mapping.columns.get("prompt", "") == column


def test_a_prompt_in_both_texts_is_the_beginning_that_they_share(tmp_path: Path) -> None:
    """In a dialogue up to the assistant's turn, though the answers begin alike; else up to the first other word."""
    rows = [
        {
            "chosen": f"\n\nHuman: hi {i}\n\nAssistant: I am well",
            "rejected": f"\n\nHuman: hi {i}\n\nAssistant: I am ill!",
        }
        for i in range(60)
    ] + [{"chosen": f"Say {i}: yes", "rejected": f"Say {i}: no!"} for i in range(60)]
    found = prepared(tmp_path, jsonl(rows), WITHOUT)
    guessed = by_code(found.findings)["guessed-prompts"]
    assert (guessed.severity, guessed.count, guessed.examples[0].row) == ("warns", 60, 61)
    made = {row.prompt: (row.chosen, row.rejected) for row in written(tmp_path, "preference")}
    assert made["\n\nHuman: hi 3\n\nAssistant:"] == (" I am well", " I am ill!")
    assert made["Say 3:"] == (" yes", " no!")


@pytest.mark.parametrize("prompt", [None, "list", "text"], ids=str)
def test_conversations_share_their_turns_but_for_the_last(tmp_path: Path, prompt: str | None) -> None:
    rows, mapping = [], CHATS
    for i in range(120):
        before = turns(f"hi {i}", "hello", "how?") if prompt != "text" else turns(f"hi {i}")
        answers = [{"role": "assistant", "content": text} for text in ("well", "ill!")]
        shared = before if prompt is None else []
        row: dict[str, Any] = {"chosen": [*shared, answers[0]], "rejected": [*shared, answers[1]]}
        if prompt:
            row["prompt"] = before if prompt == "list" else f"hi {i}"
            mapping = CHATS.model_copy(update={"columns": {"prompt": "prompt", **CHATS.columns}})
        rows.append(row)
    assert mapped(tmp_path / "scan", rows) == mapping
    found = prepared(tmp_path, jsonl(rows), mapping)
    assert found.facts is not None and found.facts.format == "preference-messages"
    row = next(row for row in written(tmp_path, "preference-messages") if row.messages[0]["content"] == "hi 5")
    assert isinstance(row, PreferenceChatRow) and (row.chosen, row.rejected) == ("well", "ill!")
    expected = turns("hi 5") if prompt == "text" else turns("hi 5", "hello", "how?")
    assert row.messages == expected


def test_what_is_no_pair_is_left_out_and_named(tmp_path: Path) -> None:
    odd = [
        {"prompt": "a", "chosen": "same", "rejected": "same"},
        {"prompt": "b", "chosen": "x", "rejected": ""},
        {"prompt": "", "chosen": "one", "rejected": "two"},
    ]
    found = prepared(tmp_path, jsonl([*usual(), *odd]), PLAIN)
    codes = by_code(found.findings)
    assert {code: finding.count for code, finding in codes.items() if code != "too-few-rows"} == {
        "equal-answers": 1,
        "empty-rows": 1,
        "no-prompt": 1,
    }
    assert codes["empty-rows"].column == "rejected" and codes["equal-answers"].examples[0].row == 121


@pytest.mark.parametrize(
    ("chosen", "code"),
    [
        (turns("hi", "well", "more", "again"), "broken-pairs"),
        (turns("hi", "well", "more"), "broken-pairs"),
        (turns("bye", "well"), "no-prompt"),
        ("no list", "broken-messages"),
    ],
)
def test_a_conversation_without_two_next_turns_is_left_out(tmp_path: Path, chosen: Any, code: str) -> None:
    rows = [{"chosen": turns(f"hi {i}", "well"), "rejected": turns(f"hi {i}", "ill!")} for i in range(120)]
    found = prepared(tmp_path, jsonl([*rows, {"chosen": chosen, "rejected": turns("hi", "ill!")}]), CHATS)
    assert [(finding.code, finding.count) for finding in found.findings if finding.code != "too-few-rows"] == [
        (code, 1)
    ]


@pytest.mark.parametrize(
    ("longer", "code", "severity"),
    [(120, "longer-chosen", "warns"), (80, "longer-chosen", "notes"), (60, None, None), (0, "shorter-chosen", "warns")],
)
def test_a_length_bias_is_found(tmp_path: Path, longer: int, code: str | None, severity: str | None) -> None:
    rows = [
        {"prompt": f"ask {i}", "chosen": f"yes {'!' * (3 if i < longer else 1)}", "rejected": f"no {i % 7}!!"}
        for i in range(120)
    ]
    findings = [f for f in prepared(tmp_path, jsonl(rows), PLAIN).findings if f.code.endswith("-chosen")]
    assert [(f.code, f.severity) for f in findings] == ([(code, severity)] if code else [])
    if findings:
        assert (findings[0].count, findings[0].details.of_rows) == (max(longer, 120 - longer), 120)


def test_pairs_of_one_prompt_lie_in_one_split(tmp_path: Path) -> None:
    rows = [row | {"prompt": f"ask {place // 3}"} for place, row in enumerate(usual())]
    prepared(tmp_path, jsonl(rows), PLAIN)
    splits: dict[str, set[str]] = {}
    for row in written(tmp_path, "preference"):
        splits.setdefault(row.prompt, set()).add(row.split)
    assert len(splits) == 40 and all(len(of_prompt) == 1 for of_prompt in splits.values())


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "expected"),
    [
        (None, "Why? Because of air.", "Why? Because of art.", ("Why? Because of", " air.", " art.")),
        (None, "Paris is it.", "Perth is it.", "no-prompt"),
        ("", "The cat sat.", "The dog ran.", "no-prompt"),
        (None, "Say yes", "Say yes please", ("Say", " yes", " yes please")),
        (None, "Frage：ja", "Frage：nein", ("Frage：", "ja", "nein")),
        (
            None,
            "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
            "\n\nHuman: a\n\nAssistant: e",
            "broken-pairs",
        ),
    ],
)
def test_a_prompt_ends_before_a_word(prompt: str | None, chosen: str, rejected: str, expected: Any) -> None:
    pair = text_pair(prompt, chosen, rejected)
    assert (pair if isinstance(pair, str) else pair[:3]) == expected


def test_blank_prompts_stay_and_guesses_name_ignored_columns(tmp_path: Path) -> None:
    odd = {"prompt": " ", "chosen": "The cat", "rejected": "The dog"}
    found = prepared(tmp_path, jsonl([*usual(), odd]), PLAIN)
    assert by_code(found.findings)["no-prompt"].count == 1
    rows = [{"system": "be kind", "context": f"c {i}"} | row for i, row in enumerate(usual(20))]
    (tmp_path / "scan").mkdir()
    scan = scanned(tmp_path / "scan", lines(rows), "data.jsonl")
    assert scan.mapping == PLAIN and "Vezna ignores system, context" in str(scan.reason)


def test_turns_that_answers_share_follow_the_prompt_unless_they_repeat_it() -> None:
    system: list[Any] = [{"role": "system", "content": "S"}]
    ask, more = turns("ask"), turns("ask", "answer", "more")
    good, bad = ({"role": "assistant", "content": text} for text in ("good", "bad"))
    for prompt, shared, expected in (
        (ask, more[1:], more),
        (ask, more, more),
        (system + ask, ask, system + ask),
        ("ask", system + ask, system + ask),
        (" ask\n", ask, ask),
        (system, ask, system + ask),
        ("", ask, ask),
        (more, [], more),
    ):
        found = chat_pair(prompt, [*shared, good], [*shared, bad])  # type: ignore[arg-type, list-item]
        assert found == (expected, good, bad), (prompt, shared)


def test_text_prompts_stay_whole_and_texts_answer_prompts_of_messages(tmp_path: Path) -> None:
    mapping = CHATS.model_copy(update={"columns": {"prompt": "prompt", **CHATS.columns}})
    answers = [[{"role": "assistant", "content": text}] for text in ("well", "ill!")]
    texts = [f"[INST] {i} {'x' * 3000} END" for i in range(120)]
    rows = [{"prompt": text, "chosen": answers[0], "rejected": answers[1]} for text in texts]
    broken = {"prompt": ["hello"], "chosen": answers[0], "rejected": answers[1]}
    found = prepared(tmp_path, jsonl([*rows, broken]), mapping)
    assert by_code(found.findings)["broken-messages"].column == "prompt"
    assert {row.messages[0]["content"] for row in written(tmp_path, "preference-messages")} == set(texts)
    rows = [{"prompt": turns(f"hi {i}"), "chosen": "well", "rejected": "[ill]"} for i in range(120)]
    mapping = mapped(tmp_path / "scan", rows)
    assert mapping is not None and mapping.format == "preference-messages" and mapping.columns["prompt"] == "prompt"
    prepared(tmp_path, jsonl(rows), mapping)
    made = written(tmp_path, "preference-messages")
    assert len(made) == 120 and {(row.chosen, row.rejected) for row in made} == {("well", "[ill]")}


def test_pairs_that_contradict_each_other_are_found(tmp_path: Path) -> None:
    rows = usual()
    swapped = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows[:5]]
    found = by_code(prepared(tmp_path, jsonl([*rows, *swapped, *rows[60:70]]), PLAIN).findings)
    assert (found["contradicting-pairs"].severity, found["contradicting-pairs"].count) == ("warns", 10)
    assert {example.excerpt for example in found["contradicting-pairs"].examples} == {f"ask {i}" for i in range(5)}


def test_test_pairs_of_one_prompt_are_found(tmp_path: Path) -> None:
    """The scores of four pairs of a prompt are not four independent scores."""
    half = Splitting(test=0.5)

    def shared(rows: list[dict[str, Any]]) -> Finding | None:
        return by_code(prepared(tmp_path, jsonl(rows), PLAIN, half).findings).get("shared-prompts")

    assert shared(usual(400)) is None
    found = shared([row | {"prompt": f"ask {place // 4}"} for place, row in enumerate(usual(400))])
    tested = sum(row.split == "test" for row in written(tmp_path, "preference"))
    assert found is not None
    assert (found.severity, found.count, found.details.of_rows) == ("warns", tested, tested)
    found = shared(
        [row | {"prompt": f"ask {place if place > 40 else place // 2}"} for place, row in enumerate(usual(400))]
    )
    assert found is not None and found.severity == "notes" and 2 <= found.count <= 40 and found.count % 2 == 0


TAGGED = ColumnMapping(format="tagged", columns={"tokens": "tokens", "tags": "tags"})
NAMES = ["Ada", "Bo", "Cy", "Di", "Ed"]


def people(count: int = 120) -> list[dict[str, Any]]:
    return [
        {"tokens": [NAMES[i % 5], "Lima", f"met{i}", "me"], "tags": ["B-PER", "I-PER", "O", "O"]} for i in range(count)
    ]


def tags_written(tmp_path: Path) -> list[TaggedRow]:
    rows = [row for rows in read(str(tmp_path / "rows.parquet"), "tagged").values() for row in rows]
    assert all(isinstance(row, TaggedRow) for row in rows)
    return rows  # type: ignore[return-value]


def csv(tokens: Any, tags: Any) -> bytes:
    def quoted(value: str) -> str:
        return '"' + value.replace('"', '""') + '"'

    lines = [f"{quoted(tokens(row['tokens']))},{quoted(tags(row['tags']))}\n" for row in people()]
    return ("tokens,tags\n" + "".join(lines)).encode()


@pytest.mark.parametrize(
    "content",
    [
        jsonl(people()),
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
    row = next(row for row in tags_written(tmp_path) if row.tokens[2] == "met7")
    assert (row.tokens, row.tags) == (["Cy", "Lima", "met7", "me"], [0, 1, 2, 2])
    assert found.facts.tasks == ["token-classification"]


def test_parquet_is_read_and_numbers_get_names(tmp_path: Path) -> None:
    rows = people()
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
    found = prepared(tmp_path, jsonl([*odd, *people()]), TAGGED)
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
    rows = [{"tokens": ["we", "met"], "tags": ["O", "O"]}, *(row | {"tags": tags} for row in people())]
    found = prepared(tmp_path, jsonl(rows), TAGGED)
    assert found.facts is not None and found.facts.label_counts == {"B-ORG": 120, "B-PER": 120, "I-PER": 120, "O": 122}
    row = next(row for row in tags_written(tmp_path) if row.tokens[2] == "met7")
    assert [found.facts.labels[tag] for tag in row.tags] == ["B-PER", "I-PER", "O", "B-ORG"]
    for findings in (found.findings, scanned(tmp_path, jsonl(rows)["data.jsonl"], "data.jsonl").findings):
        note = by_code(findings)["tags-converted"]
        assert (note.severity, note.count, note.column, note.details.scheme) == ("notes", 120, "tags", scheme)
        assert note.examples[0].row == 2 and len(note.examples) == 10
        assert note.examples[0].excerpt == f"{' '.join(tags)} → B-PER I-PER O B-ORG"
        assert not {"broken-tags", "tag-scheme"} & by_code(findings).keys()


def test_the_scheme_is_that_of_all_files_and_of_the_names_of_numbers(tmp_path: Path) -> None:
    ends = [row | {"tags": [1, 2, 0, 0]} for row in people()]
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
    found = prepared(tmp_path, jsonl([row | {"tags": tags} for row in people()]), TAGGED)
    assert found.facts is None and by_code(found.findings)[code].severity == "blocks"
    assert "tags-converted" not in by_code(found.findings)


def test_one_row_of_another_scheme_or_another_outside_tag_blocks(tmp_path: Path) -> None:
    rows = [row | {"tags": ["B-PER", "L-PER", "O", "U-ORG"]} for row in people()]
    rows.append({"tokens": ["Ada", "met"], "tags": ["B-PER", "O"]})
    found = by_code(prepared(tmp_path, jsonl(rows), TAGGED).findings)["tag-scheme"]
    assert (found.severity, found.count, found.details.labels) == ("blocks", 2, ["L-PER", "U-ORG"])
    # Otherwise every word outside of entities would be one.
    plain = [row | {"tags": ["B-PER", "I-PER", "_", "_"]} for row in people()]
    found = by_code(prepared(tmp_path, jsonl(plain), TAGGED).findings)["tag-scheme"]
    assert (found.severity, found.details.labels) == ("blocks", ["_"])
    named = TAGGED.model_copy(update={"label_names": {"_": "O"}})
    assert prepared(tmp_path, jsonl(plain), named).facts is not None


@pytest.mark.parametrize(("broken", "severity"), [(6, "warns"), (7, "blocks")])
def test_iob1_beside_iob2_among_sentences_without_entities_blocks(broken: int, severity: str, tmp_path: Path) -> None:
    """More than 5 % of the rows with entities, however many rows have none."""
    none = [{"tokens": ["we", f"met{i}"], "tags": ["O", "O"]} for i in range(300)]
    iob1 = [{"tokens": [f"Ada{i}", "met"], "tags": ["I-PER", "O"]} for i in range(broken)]
    found = by_code(prepared(tmp_path, jsonl([*none, *iob1, *people()]), TAGGED).findings)["broken-tags"]
    assert (found.count, found.severity) == (broken, severity)


def test_a_tag_that_only_the_test_split_has_and_texts_tagged_twice_are_told(tmp_path: Path) -> None:
    twice = {"tokens": ["we", "met"], "tags": ["O", "O"]}, {"tokens": ["we", "met"], "tags": ["B-PER", "O"]}
    train = jsonl([*twice, *people()])["data.jsonl"]
    test = jsonl([{"tokens": [f"x{i}"], "tags": ["B-ORG"]} for i in range(20)])["data.jsonl"]
    findings = by_code(prepared(tmp_path, {"train.jsonl": train, "test.jsonl": test}, TAGGED).findings)
    assert (
        findings["label-not-trained"].details.labels == ["B-ORG"] and findings["label-not-trained"].severity == "warns"
    )
    assert findings["contradictions"].count == 1
    assert "imbalance" not in findings, "outside is always common"


def test_the_same_rows_in_another_order_have_the_same_tags(tmp_path: Path) -> None:
    rows = [*people(), *({"tokens": [f"in{i}", "Rome"], "tags": ["O", "B-LOC"]} for i in range(40))]
    first, other = (prepared(tmp_path, jsonl(order), TAGGED).facts for order in (rows, rows[::-1]))
    assert first is not None and other is not None and first.labels == other.labels == ["B-LOC", "B-PER", "I-PER", "O"]
    assert first.label_counts == other.label_counts
