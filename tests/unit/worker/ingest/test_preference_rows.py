"""Preference pairs in files of any kind: prompts that stand in the answers, conversations, what is left out, bias."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.data.dataset import PreferenceChatRow, PreferenceRow
from app.domain.data.findings import Finding
from app.domain.data.guesses.mapping import ColumnMapping
from app.domain.data.splitting import Splitting
from app.domain.tasks import Format
from tests.support.ingested import prepared, scanned
from worker.engine.data.batches.batches import read
from worker.ingest.rows.preferences import chat_pair, text_pair

PLAIN = ColumnMapping(format="preference", columns={"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"})
WITHOUT = ColumnMapping(format="preference", columns={"chosen": "chosen", "rejected": "rejected"})
CHATS = ColumnMapping(format="preference-messages", columns={"chosen": "chosen", "rejected": "rejected"})


def usual(count: int = 120) -> list[dict[str, Any]]:
    """Answers of equal length."""
    return [{"prompt": f"ask {i}", "chosen": f"yes {i}", "rejected": f"no! {i}"} for i in range(count)]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def jsonl(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    return {"data.jsonl": lines(rows)}


def mapped(folder: Path, rows: list[dict[str, Any]]) -> ColumnMapping | None:
    folder.mkdir(exist_ok=True)
    return scanned(folder, lines(rows), "data.jsonl").mapping


def by_code(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings}


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


def test_a_blank_prompt_of_a_column_is_not_replaced(tmp_path: Path) -> None:
    odd = {"prompt": " ", "chosen": "The cat", "rejected": "The dog"}
    found = prepared(tmp_path, jsonl([*usual(), odd]), PLAIN)
    assert by_code(found.findings)["no-prompt"].count == 1


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


def test_a_long_text_prompt_that_begins_with_a_bracket_stays_whole(tmp_path: Path) -> None:
    mapping = CHATS.model_copy(update={"columns": {"prompt": "prompt", **CHATS.columns}})
    answers = [[{"role": "assistant", "content": text}] for text in ("well", "ill!")]
    texts = [f"[INST] {i} {'x' * 3000} END" for i in range(120)]
    rows = [{"prompt": text, "chosen": answers[0], "rejected": answers[1]} for text in texts]
    broken = {"prompt": ["hello"], "chosen": answers[0], "rejected": answers[1]}
    found = prepared(tmp_path, jsonl([*rows, broken]), mapping)
    assert by_code(found.findings)["broken-messages"].column == "prompt"
    assert {row.messages[0]["content"] for row in written(tmp_path, "preference-messages")} == set(texts)


def test_texts_answer_a_prompt_of_messages(tmp_path: Path) -> None:
    rows = [{"prompt": turns(f"hi {i}"), "chosen": "well", "rejected": "[ill]"} for i in range(120)]
    mapping = mapped(tmp_path / "scan", rows)
    assert mapping is not None and mapping.format == "preference-messages" and mapping.columns["prompt"] == "prompt"
    prepared(tmp_path, jsonl(rows), mapping)
    made = written(tmp_path, "preference-messages")
    assert len(made) == 120 and {(row.chosen, row.rejected) for row in made} == {("well", "[ill]")}


def test_a_guess_names_the_columns_that_it_ignores(tmp_path: Path) -> None:
    rows = [{"system": "be kind", "context": f"c {i}"} | row for i, row in enumerate(usual(20))]
    (tmp_path / "scan").mkdir()
    scan = scanned(tmp_path / "scan", lines(rows), "data.jsonl")
    assert scan.mapping == PLAIN and "Vezna ignores system, context" in str(scan.reason)


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
