"""Findings are stored as codes, numbers and names; what they say is made where they are shown, in any language."""

import re
from functools import cache
from typing import Any, get_args

import pytest
from babel.messages.extract import extract_from_file
from babel.support import Translations
from fastapi.testclient import TestClient

from app.domain.data.findings import Details, Example, Finding, FindingCode
from app.settings import ROOT
from app.store.tables import DatasetRow, UploadRow
from app.words import i18n
from app.words.data.findings import with_message
from tests.support.rows.factories import plain
from tests.unit.web.conftest import database_of

SENTENCES = [ROOT / "app/words/data" / name for name in ("findings.py", "tag_findings.py", "preference_findings.py")]
SCAN: dict[str, Any] = {"kind": "csv", "encoding": "utf-8", "delimiter": ",", "rows": 4, "splits": {"": 4}}
COLUMNS = [{"name": name, "kind": "text", "examples": [], "empty": 0, "distinct": 2} for name in ("text", "label")]


def found(code: FindingCode, count: int = 1, column: str = "", row: int = 0, **details: Any) -> Finding:
    examples = [Example(row=row)] if row else []
    return Finding(
        code=code, severity="warns", count=count, column=column, examples=examples, details=Details(**details)
    )


FOUND: list[tuple[Finding, str]] = [
    (
        found("encoding", 50, "text", 2, encoding="latin-1"),
        "The file is not UTF-8 and was read as latin-1, a guess from its bytes: 50 rows of the "
        "column text have non-ASCII characters (first: row 2).",
    ),
    (
        found("control-characters", 1200, "text", 3),
        "1,200 rows of the column text have invisible control characters, which become tokens (first: row 3).",
    ),
    (
        found("control-characters", 7, labels=["a", "b", "c", "d", "e"]),
        "7 labels contain invisible control characters: a, b, c, d, e, ….",
    ),
    (found("formulas", 2, "text", 9), "2 rows of the column text start like a spreadsheet formula (first: row 9)."),
    (
        found("very-long-field", 3, "text", 22, limit=100_000),
        "3 rows have more than 100,000 characters in the column text (first: row 22).",
    ),
    (found("empty-rows", 30, "text", 5), "30 rows were left out: their column text is empty (first: row 5)."),
    (
        found("broken-messages", 2, "chat", 7),
        "2 rows were left out: their column chat is not a list of messages with role and content (first: row 7).",
    ),
    (
        found("broken-words", 1, "tokens", 7),
        "1 row was left out: its column tokens is not a list of words, or has an empty word (row 7).",
    ),
    (
        found("broken-images", 2, "image", 7),
        "2 rows were left out: Vezna cannot decode the images in their column image, or they have more than 50 "
        "megapixels or 32 MiB (first: row 7).",
    ),
    (
        found("skipped-files", 14, "image", labels=[".heic", ".txt"], label_rows=[12, 2]),
        "14 files of the archive were skipped, because Vezna does not read their formats: .heic (12), .txt (2).",
    ),
    (
        found("tags-mismatch", 2, "tags", 7),
        "2 rows were left out: they do not have one tag in the column tags for each word (first: row 7).",
    ),
    (
        found("no-prompt", 1, "rejected", 7),
        "1 row was left out: it has no prompt, and its answers do not begin alike (row 7).",
    ),
    (
        found("broken-pairs", 2, "rejected", 7),
        "2 rows were left out: after their prompt, chosen and rejected are not one answer each (first: row 7).",
    ),
    (
        found("equal-answers", 2, "rejected", 7),
        "2 rows were left out: their chosen and their rejected answer are equal (first: row 7).",
    ),
    (
        found("guessed-prompts", 3, "", 7),
        "The prompts of 3 pairs are the words that both answers begin with, which may be part of the answers; then "
        "pairs of one question have different prompts, also across splits (first: row 7).",
    ),
    (
        found("contradicting-pairs", 2, "", 7),
        "2 pairs contradict each other: the same two answers to the same prompt, once the one and once the other "
        "chosen (first: row 7).",
    ),
    (
        found("shared-prompts", 40, "", 7, of_rows=100),
        "40 test pairs (40 %) have their prompt in common with others. Their scores depend on each other, so "
        "intervals count pairs of one prompt as one cluster (first: row 7).",
    ),
    (
        found("shared-groups", 4, "", 7, split="test", of_rows=64, groups=4, labels=["ann", "bob", "cy"]),
        "The splits share 4 groups: 4 of 64 rows of the test split (6.2 %) have a group that also occurs in an earlier "
        "split (ann, bob, cy, …). A model may recognise the group, which inflates the score.",
    ),
    (
        found("too-few-groups", 1, limit=3),
        "All rows that are to be split belong to one group, which stays in one split: 3 splits need as many groups.",
    ),
    (
        found("shared-passages", 40, "", 7, of_rows=100),
        "40 test queries (40 %) have their passage in common with others. Their scores depend on each other, so the "
        "intervals of a verdict are too narrow (first: row 7).",
    ),
    (
        found("longer-chosen", 80, of_rows=100),
        "Length bias: the chosen answer is the longer one in 80 of 100 rows (80 %), so a model can score as much by "
        "preferring long answers.",
    ),
    (
        found("shorter-chosen", 60, of_rows=100),
        "Length bias: the chosen answer is the shorter one in 60 of 100 rows (60 %), so a model can score as much by "
        "preferring short answers.",
    ),
    (
        found("broken-tags", 1, "tags", 7),
        "1 row was left out: a tag I-TYPE in its column tags follows neither B-TYPE nor I-TYPE (row 7).",
    ),
    (
        found("tags-converted", 1200, "tags", 3, scheme="BILOU"),
        "The tags in the column tags follow the scheme BILOU. The dataset has them as IOB2, which changes them in "
        "1,200 rows (first: row 3).",
    ),
    (found("tag-scheme", 2, labels=["E-PER", "S-PER"]), "2 tags are of another scheme than IOB2: E-PER, S-PER."),
    (
        found("tags-are-numbers", 2, labels=["0", "1"]),
        "The 2 tags are numbers (0, 1), so every word counts as an entity of its own.",
    ),
    (
        found("no-assistant-turn", 2, "chat", 7),
        "2 rows were left out: their column chat has no assistant message to learn from, or an "
        "empty one (first: row 7).",
    ),
    (
        found("unsupported-chat", 2, "tool_calls", 7),
        "2 rows have tool_calls in a form that Vezna does not read; without it, the model would learn something else "
        "(first: row 7).",
    ),
    (
        found("unread-chat-fields", 1, "name", 7),
        "1 row has messages with the field name, which Vezna does not read (row 7).",
    ),
    (found("duplicates", 20), "20 rows duplicate an earlier row of their split (white space is ignored)."),
    (found("contradictions", 2), "2 inputs occur with different labels."),
    (
        found("leak", 250, split="test", of_rows=2000),
        "Test leakage: 250 of 2,000 rows of the test split (12 %) also occur in train or "
        "validation; the score is inflated.",
    ),
    (found("leak", 2, split="validation"), "Validation leakage: 2 rows of the validation split also occur in train."),
    (
        found("near-leak", 2, shared=0.8),
        "2 rows of test or validation are near-duplicates of train rows (they share at least 80 %"
        " of their word trigrams).",
    ),
    (
        found("near-leak", 2, shared=0.8, held_out_rows=10_000, train_rows=100_000),
        "2 of 10,000 sampled rows of test or validation are near-duplicates of one of 100,000 "
        "sampled train rows (they share at least 80 % of their word trigrams).",
    ),
    (
        found("near-leak", 2, shared=0.99, limit=10),
        "2 images of test or validation are near-duplicates of train images (their difference hashes differ in at "
        "most 10 of 128 bits, and their thumbnails have a correlation of at least 0.99).",
    ),
    (
        found("near-leak", 1, shared=0.99, limit=10, held_out_rows=10_000, train_rows=100_000),
        "1 of 10,000 sampled images of test or validation is a near-duplicate of one of 100,000 sampled train images "
        "(their difference hashes differ in at most 10 of 128 bits, and their thumbnails have a correlation of at "
        "least 0.99).",
    ),
    (found("too-few-rows", 2, limit=10), "The dataset has 2 rows; it needs at least 10."),
    (
        found("too-few-rows", 99, split="test"),
        "The test split has 99 rows: only large differences will be significant.",
    ),
    (found("empty-split", 0, split="validation"), "The validation split is empty."),
    (found("one-class", 1, labels=["same"]), "All rows have the label same, so there is nothing to classify."),
    (found("too-many-labels", 5000, limit=1000), "There are 5,000 distinct labels; the limit is 1,000."),
    (
        found("label-once", 2, labels=["a", "b"]),
        "2 labels (a, b) occur in one row only, so they cannot be both trained and tested.",
    ),
    (
        found("label-not-trained", 6, labels=["a", "b", "c", "d", "e"]),
        "6 labels (a, b, c, d, e, …) do not occur in train, so the model cannot learn them.",
    ),
    (
        found("label-not-tested", 2, labels=["a", "%(b)s"]),
        "2 labels (a, %(b)s) do not occur in test, so the score says nothing about them.",
    ),
    (
        found("labels-alike", 4, alike=[["'yes'", "'yes '"], ["'no'", "' no'"]], differ_by="white-space"),
        "Some labels differ in white space only: 'yes' and 'yes '; 'no' and ' no'.",
    ),
    (
        found("labels-alike", 2, alike=[["'No'", "'no'"]], differ_by="capital-letters"),
        "Some labels differ in upper and lower case only: 'No' and 'no'.",
    ),
    (
        found("labels-alike", 3, alike=[["1", '"1"', "1.0"]], differ_by="type"),
        'Some labels differ in type only and became one label each: 1, "1" and 1.0.',
    ),
    (
        found("duplicate-keys", 2, row=3, labels=["role", "content"], column="messages"),
        "2 rows have a duplicate JSON key in the column messages (role, content; first: row 3). As in most readers of "
        "JSON, its last value is kept.",
    ),
    (
        found("not-a-number", 2, row=3, column="label"),
        "2 rows were left out: their label in the column label is NaN or infinite (first: row 3).",
    ),
    (
        found("imbalance", 3, labels=["earn", "grain"], label_rows=[3000, 1], of_rows=4000),
        "Imbalanced labels: earn has 3,000 rows (75 %), grain has 1 row.",
    ),
    (
        found("stop-outside-loss", 1, of_rows=5000),
        "1 of 5,000 rows has a reply whose stop token is outside the loss, so the model does not learn there to stop.",
    ),
    (
        found("empty-thought-learnt", 7, of_rows=7),
        "7 of 7 rows have an empty <think></think> in the loss, so the model learns not to reason.",
    ),
    (
        found("reasoning-left-out", 3, of_rows=40),
        "The chat template leaves out the reasoning of earlier turns in 3 of 40 rows, so the model does not learn it.",
    ),
]


class Bracketed(Translations):
    """A language in which what the catalogue knows stands in brackets."""

    def __init__(self) -> None:
        super().__init__()
        keywords: Any = {"_": None, "marked": None, "ngettext": (1, 2), "marked_plural": (1, 2)}
        extracted = [found for file in SENTENCES for found in extract_from_file("python", file, keywords)]
        self.known = {message for _line, message, *_rest in extracted}

    def ugettext(self, message: object) -> str:
        """A message."""
        return f"⟦{message}⟧" if message in self.known else str(message)

    def ungettext(self, singular: str, plural: str, num: int) -> str:
        """One of three forms, as some languages have them."""
        form = singular if num == 1 else plural
        return f"⟦{'few: ' if num == 2 else ''}{form}⟧" if (singular, plural) in self.known else form


@pytest.fixture
def bracketed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(i18n, "translations", cache(lambda _code: Bracketed()))


def stored(client: TestClient, **row: Any) -> None:
    """Data that is blocked, and an upload that was read."""
    with database_of(client).transaction() as session:
        session.add(DatasetRow(name="few", status="blocked", progress=1.0, **row))
        scan = SCAN | {"columns": COLUMNS, "findings": row["findings_json"]}
        session.add(UploadRow(source="files", name="few.csv", status="read", progress=1.0, rows_read=4, scan_json=scan))


def test_every_code_is_among_those_that_are_tried_here() -> None:
    assert {finding.code for finding, _message in FOUND} == set(get_args(FindingCode))


@pytest.mark.parametrize(("finding", "message"), FOUND, ids=[message[:50] for _finding, message in FOUND])
def test_a_finding_says_what_was_found_and_what_to_do(finding: Finding, message: str) -> None:
    kept = Finding.model_validate_json(finding.model_dump_json())
    assert (kept, kept.message, kept.remedy) == (finding, "", "")
    told = with_message(kept)
    assert told.message.replace("\N{NO-BREAK SPACE}", " ") == message
    assert re.search(r"\w[.?]$", told.remedy)


def test_what_to_do_about_labels_out_of_balance_names_the_commonest() -> None:
    finding = found("imbalance", 3, labels=["earn", "grain"], label_rows=[3000, 1], of_rows=4000)
    assert "earn would be right in 75\N{NO-BREAK SPACE}%" in with_message(finding).remedy


@pytest.mark.usefixtures("bracketed")
@pytest.mark.parametrize("finding", [finding for finding, _message in FOUND])
@pytest.mark.parametrize("one", [False, True])
def test_the_catalogue_has_the_sentence_with_its_plural_and_what_to_do(finding: Finding, one: bool) -> None:
    finding = finding.model_copy(update={"count": 1} if one and finding.count else {})
    told = with_message(finding)
    assert told.message.startswith("⟦") and told.message.endswith("⟧")
    assert told.remedy.startswith("⟦") and told.remedy.endswith("⟧")
    unchanging = finding.code in ("labels-alike", "imbalance")
    assert told.message.startswith("⟦few: ") == (finding.count == 2 and not unchanging)


@pytest.mark.usefixtures("bracketed")
def test_pages_say_findings_in_the_readers_language(empty: TestClient) -> None:
    finding = found("too-few-rows", 2, row=2, limit=10).model_copy(update={"severity": "blocks"})
    stored(empty, findings_json=[finding.model_dump(mode="json")])
    said = "⟦few: The dataset has 2 rows; it needs at least 10.⟧ ⟦Add rows.⟧"
    page = plain(empty.get("/data/few").text)
    assert said in page
    assert page.count("⟦few: The dataset has 2 rows") == 2  # on top, why there is no dataset
    assert said in plain(empty.get("/data/uploads/1").text)


def test_the_api_says_findings_with_message_and_in_numbers(empty: TestClient) -> None:
    finding = found("too-few-rows", 2, row=2, limit=10).model_copy(update={"severity": "blocks"})
    stored(empty, findings_json=[finding.model_dump(mode="json")])
    why = "The dataset has 2 rows; it needs at least 10."
    got = empty.get("/api/v1/datasets/few").json()
    assert got["message"] == why
    for one in (got["findings"][0], empty.get("/api/v1/uploads/1").json()["scan"]["findings"][0]):
        assert (one["code"], one["count"], one["details"]) == ("too-few-rows", 2, {"limit": 10})
        assert (one["message"], one["remedy"]) == (why, "Add rows.")
    assert [row["message"] for row in empty.get("/api/v1/datasets").json()] == [why]
