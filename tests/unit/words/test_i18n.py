"""Everything that a person reads can be translated: it is found by Babel, and said in the language of the request."""

import ast
import re
import time
from collections.abc import Iterator

import pytest
from babel.support import Translations
from fastapi.testclient import TestClient

from app.domain.failures import FAILURES
from app.domain.messages import Message
from app.domain.methods import METHODS
from app.domain.models.base_model import SAMPLE_MODEL
from app.domain.models.weight_delta import UNCHANGED
from app.domain.resources.savings import SAVINGS
from app.domain.tasks import METRICS, TASKS
from app.settings import ROOT
from app.web.templating import TEMPLATES, environment
from app.words import i18n
from tests.support.checks.catalogue import extracted
from tests.support.filled.language import register_language
from tests.unit.web.conftest import database_of

FIELD_ERRORS = {"FieldError", "FilterError", "wrong", "field"}
"""Called with a path, a message and a remedy."""
ERRORS = {"NotFound", "Conflict", "Invalid", "Unreadable", "WorkFailed", "ChildError", "NoAnswer"}


class Esperanto(Translations):
    """A language with one sentence."""

    def ugettext(self, message: object) -> str:
        """Its one sentence, and the rest in capitals but for what is filled in."""
        known = {"%(architecture)s has no block %(block)s": "Bloko %(block)s mankas al %(architecture)s"}
        return known.get(str(message), str(message) if "%(" in str(message) else str(message).upper())


@pytest.fixture
def esperanto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(i18n, "translations", lambda _code: Esperanto())


@pytest.mark.slow
def test_babel_extracts_the_messages_of_pages_domain_services_and_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = {message.id for message in extracted()}
    facts = [spec for spec in METHODS.values()]
    assert {
        "Is LoRA enough on your data?",
        *FAILURES.values(),
        *UNCHANGED.values(),
        *SAVINGS.values(),
        *(words for method in facts for words in (method.name, method.summary, method.formula)),
        *(words for metric in METRICS.values() for words in (metric.title, metric.definition)),
        *(task.title for task in TASKS.values()),
        "%(architecture)s has no block %(block)s",
        "The %(name)s process stopped answering. Try again.",
        "%(name)s is empty.",
        "The hub cannot serve %(name)s at the moment (HTTP %(status)s). Try again later.",
    } <= found


@pytest.mark.slow
def test_every_error_of_domain_services_pages_and_workers_can_be_translated() -> None:
    """What an error is made with is a `Message`, or comes from one: never a plain or formatted string."""
    rooms = ("app/domain", "app/services", "app/store", "app/web", "worker")
    untranslatable = [
        f"{file.relative_to(ROOT)}:{text.lineno}: {ast.unparse(text)}"
        for room in rooms
        for file in (ROOT / room).rglob("*.py")
        for text in _untranslatable(ast.parse(file.read_bytes()))
    ]
    assert untranslatable == []


def _untranslatable(tree: ast.AST) -> Iterator[ast.expr]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            name = ast.unparse(call.func).rpartition(".")[2]
            texts = call.args[1:3] if name in FIELD_ERRORS else call.args[:1] if name in ERRORS else []
            for text in texts:
                if isinstance(text, ast.JoinedStr) or (isinstance(text, ast.Constant) and text.value):
                    yield text


def test_a_missing_catalogue_means_english() -> None:
    i18n.speak("eo")
    try:
        assert i18n.gettext("%(num)s things", num=2) == "2 things"
        assert i18n.ngettext("%(num)s run", "%(num)s runs", 1) == "1 run"
    finally:
        i18n.speak(i18n.DEFAULT)


def test_no_template_that_is_imported_translates_at_its_top() -> None:
    """Jinja evaluates such a template once, so that its words would stay in the language of the first request."""
    sources = {
        path.relative_to(TEMPLATES).as_posix().removeprefix("features/"): path.read_text()
        for path in TEMPLATES.rglob("*.html")
    }
    imported = {name for text in sources.values() for name in re.findall(r'{%-? (?:from|import) "([^"]+)"', text)}
    assert len(imported) > 20
    for name in imported:
        outside = re.sub(r"{%-? macro .*?endmacro -?%}", "", sources[name], flags=re.DOTALL)
        assert not re.search(r"\b(_|ngettext|translate)\(", outside), name


@pytest.mark.usefixtures("esperanto")
def test_messages_among_the_values_of_a_sentence_are_translated_too() -> None:
    said = environment().from_string('{{ _("It is %(what)s", what=what) }}').render(what=Message("empty"))
    assert said == "It is EMPTY"


@pytest.mark.parametrize(
    ("english", "bulgarian"),
    [
        ("The file runs/1/a.parquet is no longer in the store.", "Файлът runs/1/a.parquet вече не е в хранилището."),
        ("There is no run 7. Not a sentence of the product.", "Няма изпълнение 7. Not a sentence of the product."),
        ("LoRA r=8", "LoRA r=8"),
        ("full", "full"),
        ("", ""),
    ],
)
def test_a_stored_sentence_is_said_in_the_language_of_the_page(english: str, bulgarian: str) -> None:
    assert i18n.stored(english) == english
    i18n.speak("bg")
    try:
        assert i18n.stored(english) == bulgarian
    finally:
        i18n.speak(i18n.DEFAULT)


def test_a_stored_text_made_to_match_many_templates_costs_no_more_than_its_length() -> None:
    row = "row %s (it begins with %s) has %s of the %s; it is %s, and %s, not %s."
    text = " ".join([row] * 40) + "; " * 600
    i18n.speak("bg")
    try:
        began = time.process_time()
        assert i18n.stored(text) == text
        assert i18n.stored(text[:1900].replace("; ", ", ")) == text[:1900].replace("; ", ", ")
        assert time.process_time() - began < 2  # 60 s with patterns that go back
    finally:
        i18n.speak(i18n.DEFAULT)


@pytest.mark.usefixtures("esperanto")
def test_pages_say_names_and_errors_in_the_language_of_the_request(registered_only: TestClient) -> None:
    with database_of(registered_only).transaction() as session:
        register_language(session)
    form = {
        "base_model": SAMPLE_MODEL,
        "dataset": "bbc-headlines",
        "arms.0.method.kind": "lora",
        "arms.0.method.layers_to_transform": "7",
    }
    text = registered_only.post("/studies/new", data=form).text
    for facts in METHODS.values():
        assert facts.name.upper() in text
    assert "Bloko 7 mankas al" in text
    assert "USE LORA" in registered_only.get("/models/t5-small").text.upper()
