"""Findings are stored as codes, numbers and names; what they say is made where they are shown, in any language."""

import re
from functools import cache
from typing import Any, get_args

import pytest
from babel.messages.pofile import read_po
from babel.support import Translations
from fastapi.testclient import TestClient

from app.domain.data.findings import Details, Example, Finding, FindingCode
from app.store.tables import DatasetRow, UploadRow
from app.web import i18n
from app.web.catalogue import TEMPLATE
from app.web.text.findings import in_words
from tests.factories import plain
from tests.unit.web.conftest import database_of

SCAN: dict[str, Any] = {"kind": "csv", "encoding": "utf-8", "delimiter": ",", "rows": 4, "splits": {"": 4}}
COLUMNS = [{"name": name, "kind": "text", "examples": [], "empty": 0, "distinct": 2} for name in ("text", "label")]
OLD: dict[str, Any] = {
    "code": "too-few-rows", "severity": "blocks", "count": 2, "column": "",
    "message": "There are 2 rows, as an older version said it; at least 10 are needed.",
    "remedy": "Bring more, it said.",
    "examples": [{"row": 2, "file": "", "split": "train", "item": "", "excerpt": "a"}],
}  # fmt: skip
"""As it was stored while sentences were."""


def found(code: FindingCode, count: int = 1, column: str = "", row: int = 0, **details: Any) -> Finding:
    examples = [Example(row=row)] if row else []
    return Finding(
        code=code, severity="warns", count=count, column=column, examples=examples, details=Details(**details)
    )


FOUND: list[tuple[Finding, str]] = [
    (
        found("encoding", 1, "text", 2, encoding="latin-1"),
        "1 row has letters beyond ASCII in the column text, and the file is not UTF-8: it was read as latin-1, by what "
        "its bytes look like, first row 2.",
    ),
    (
        found("encoding", 50, "text", 2, encoding="latin-1"),
        "50 rows have letters beyond ASCII in the column text, and the file is not UTF-8: it was read as latin-1, by "
        "what its bytes look like, first row 2.",
    ),
    (
        found("control-characters", 1, "text", 3),
        "1 row has control characters in the column text, which cannot be seen and are tokens all the same, first row "
        "3.",
    ),
    (
        found("control-characters", 1200, "text", 3),
        "1,200 rows have control characters in the column text, which cannot be seen and are tokens all the same, "
        "first row 3.",
    ),
    (found("control-characters", 1, labels=["a"]), "1 label has characters that cannot be shown: a."),
    (
        found("control-characters", 7, labels=["a", "b", "c", "d", "e"]),
        "7 labels have characters that cannot be shown: a, b, c, d, e, ….",
    ),
    (found("formulas", 1, "text", 9), "1 row begins like a formula in the column text, first row 9."),
    (found("formulas", 2, "text", 9), "2 rows begin like a formula in the column text, first row 9."),
    (
        found("very-long-field", 1, "text", 22, limit=100_000),
        "1 row has more than 100,000 characters in the column text, first row 22.",
    ),
    (
        found("very-long-field", 3, "text", 22, limit=100_000),
        "3 rows have more than 100,000 characters in the column text, first row 22.",
    ),
    (found("empty-rows", 1, "text", 5), "1 row with nothing in the column text, first row 5; left out."),
    (found("empty-rows", 30, "text", 5), "30 rows with nothing in the column text, first row 5; left out."),
    (
        found("broken-messages", 1, "chat", 7),
        "1 row whose chat is no list of turns with role and content, first row 7; left out.",
    ),
    (
        found("broken-messages", 2, "chat", 7),
        "2 rows whose chat is no list of turns with role and content, first row 7; left out.",
    ),
    (
        found("no-assistant-turn", 1, "chat", 7),
        "1 row whose chat has no turn of an assistant, or an empty one, to learn from, first row 7; left out.",
    ),
    (
        found("no-assistant-turn", 2, "chat", 7),
        "2 rows whose chat has no turn of an assistant, or an empty one, to learn from, first row 7; left out.",
    ),
    (found("duplicates", 1), "1 row repeats an earlier one of the same split, but for white space."),
    (found("duplicates", 20), "20 rows repeat an earlier one of the same split, but for white space."),
    (found("contradictions", 1), "1 text stands under more than one label."),
    (found("contradictions", 2), "2 texts stand under more than one label."),
    (
        found("leak", 1, split="test", of_rows=100),
        "1 of 100 rows of the test split (1.0 %) is in train or validation too: what is known by heart counts as "
        "learnt.",
    ),
    (
        found("leak", 250, split="test", of_rows=2000),
        "250 of 2,000 rows of the test split (12 %) are in train or validation too: what is known by heart counts as "
        "learnt.",
    ),
    (found("leak", 1, split="validation"), "1 row of the validation split is in train too."),
    (found("leak", 2, split="validation"), "2 rows of the validation split are in train too."),
    (
        found("near-leak", 1, shared=0.8),
        "1 row of test or validation is nearly in train (at least 80 % of their runs of three words are shared).",
    ),
    (
        found("near-leak", 2, shared=0.8),
        "2 rows of test or validation are nearly in train (at least 80 % of their runs of three words are shared).",
    ),
    (
        found("near-leak", 1, shared=0.8, held_out_rows=10_000, train_rows=100_000),
        "1 row of test or validation, of 10,000 that were looked at beside 100,000 of train, is nearly in train (at "
        "least 80 % of their runs of three words are shared).",
    ),
    (
        found("near-leak", 2, shared=0.8, held_out_rows=10_000, train_rows=100_000),
        "2 rows of test or validation, of 10,000 that were looked at beside 100,000 of train, are nearly in train (at "
        "least 80 % of their runs of three words are shared).",
    ),
    (found("too-few-rows", 1, limit=10), "There is 1 row to learn from and to be tested on; at least 10 are needed."),
    (found("too-few-rows", 2, limit=10), "There are 2 rows to learn from and to be tested on; at least 10 are needed."),
    (
        found("too-few-rows", 1, split="test"),
        "The test split has 1 row: only large differences will be told apart.",
    ),
    (
        found("too-few-rows", 99, split="test"),
        "The test split has 99 rows: only large differences will be told apart.",
    ),
    (found("empty-split", 0, split="validation"), "No row is in the validation split."),
    (found("one-class", 1, labels=["same"]), "All rows have one label, same: there is nothing to tell apart."),
    (
        found("too-many-labels", 5000, limit=1000),
        "There are 5,000 different labels, and at most 1,000 are learnt.",
    ),
    (found("label-once", 1, labels=["a"]), "The label a comes once: it is either learnt or tested, never both."),
    (
        found("label-once", 2, labels=["a", "b"]),
        "2 labels (a, b) each come once: it is either learnt or tested, never both.",
    ),
    (
        found("label-not-trained", 1, labels=["a"]),
        "The label a comes in no row of the train split, so nothing is learnt of it.",
    ),
    (
        found("label-not-trained", 6, labels=["a", "b", "c", "d", "e"]),
        "6 labels (a, b, c, d, e, …) each come in no row of the train split, so nothing is learnt of it.",
    ),
    (
        found("label-not-tested", 1, labels=["100 %"]),
        "The label 100 % comes in no row of the test split: nothing will be known of it.",
    ),
    (
        found("label-not-tested", 2, labels=["a", "%(b)s"]),
        "2 labels (a, %(b)s) each come in no row of the test split: nothing will be known of it.",
    ),
    (
        found("labels-alike", 4, alike=[["'yes'", "'yes '"], ["'no'", "' no'"]], differ_by="white-space"),
        "Labels differ by white space only: 'yes' and 'yes '; 'no' and ' no'.",
    ),
    (
        found("labels-alike", 2, alike=[["'No'", "'no'"]], differ_by="capital-letters"),
        "Labels differ by capital letters only: 'No' and 'no'.",
    ),
    (
        found("imbalance", 3, labels=["earn", "grain"], label_rows=[3000, 1], of_rows=4000),
        "The label earn has 3,000 rows (75 %), and grain has 1 row.",
    ),
]


class Bracketed(Translations):
    """A language in which what the catalogue knows stands in brackets."""

    def __init__(self) -> None:
        super().__init__()
        with TEMPLATE.open("rb") as file:
            self.known = {message.id for message in read_po(file)}

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
    told = in_words(kept)
    assert told.message.replace("\N{NO-BREAK SPACE}", " ") == message
    assert re.search(r"\w[.?]$", told.remedy)


def test_what_to_do_about_labels_out_of_balance_names_the_commonest() -> None:
    finding = found("imbalance", 3, labels=["earn", "grain"], label_rows=[3000, 1], of_rows=4000)
    assert in_words(finding).remedy == (
        "Whoever always says earn is right in 75\N{NO-BREAK SPACE}%: look at macro-F1 beside accuracy."
    )


@pytest.mark.usefixtures("bracketed")
@pytest.mark.parametrize("finding", [finding for finding, _message in FOUND])
def test_the_catalogue_has_the_sentence_with_its_plural_and_what_to_do(finding: Finding) -> None:
    told = in_words(finding)
    assert told.message.startswith("⟦") and told.message.endswith("⟧")
    assert told.remedy.startswith("⟦") and told.remedy.endswith("⟧")
    unchanging = finding.code in ("labels-alike", "imbalance")
    assert told.message.startswith("⟦few: ") == (finding.count == 2 and not unchanging)


@pytest.mark.usefixtures("bracketed")
def test_pages_say_findings_in_the_readers_language(empty: TestClient) -> None:
    finding = found("too-few-rows", 2, row=2, limit=10).model_copy(update={"severity": "blocks"})
    stored(empty, findings_json=[finding.model_dump(mode="json")])
    said = "⟦few: There are 2 rows to learn from and to be tested on; at least 10 are needed.⟧ ⟦Bring more rows.⟧"
    page = plain(empty.get("/data/few").text)
    assert said in page
    assert page.count("⟦few: There are 2 rows to learn from") == 2  # on top, why there is no dataset
    assert said in plain(empty.get("/data/uploads/1").text)


def test_the_api_says_findings_in_words_and_in_numbers(empty: TestClient) -> None:
    finding = found("too-few-rows", 2, row=2, limit=10).model_copy(update={"severity": "blocks"})
    stored(empty, findings_json=[finding.model_dump(mode="json")])
    why = "There are 2 rows to learn from and to be tested on; at least 10 are needed."
    got = empty.get("/api/v1/datasets/few").json()
    assert got["message"] == why
    for one in (got["findings"][0], empty.get("/api/v1/uploads/1").json()["scan"]["findings"][0]):
        assert (one["code"], one["count"], one["details"]) == ("too-few-rows", 2, {"limit": 10})
        assert (one["message"], one["remedy"]) == (why, "Bring more rows.")
    assert [row["message"] for row in empty.get("/api/v1/datasets").json()] == [why]


def test_a_finding_that_was_stored_as_a_sentence_is_still_shown(empty: TestClient) -> None:
    stored(empty, message=OLD["message"], findings_json=[OLD])
    for path in ("/data/few", "/data/uploads/1"):
        assert f"{OLD['message']} {OLD['remedy']}" in plain(empty.get(path).text)
    got = empty.get("/api/v1/datasets/few").json()
    assert got["message"] == OLD["message"]
    assert got["findings"] == [OLD | {"details": {}}]
    assert empty.get("/api/v1/uploads/1").json()["scan"]["findings"] == [OLD | {"details": {}}]
