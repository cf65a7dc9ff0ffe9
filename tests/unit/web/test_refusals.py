"""What the domain says in English is said in a reader's language, with the values that are in it."""

import ast

import pytest
from babel.support import Translations
from fastapi.testclient import TestClient

from app.domain.errors import FieldError
from app.domain.methods import METHODS, LoraSpec
from app.domain.models.adaptations import adaptations
from app.domain.models.base_model import SAMPLE_MODEL
from app.web import i18n
from app.web.refusals import templates, told, translated
from tests import filled
from tests.filled_language import register_language
from tests.unit.web.conftest import database_of

MODEL = filled.model_facts().task_model("sequence-classification", 5)
SOURCE = """
def incompatibility(self, model):
    what = f"{model.name} has {len(model.blocks)} blocks and {len(self.blocks)}% of them"
    other = "not said to anybody"
    return FieldError("kind", what, f"at most {most}" if most else "use LoRA")

def check(self):
    raise Invalid.field("name", "give one", f"{remedy}")
"""


class Esperanto(Translations):
    """A language with one sentence."""

    def ugettext(self, message: object) -> str:
        """Its one sentence, and the rest in capitals but for what is filled in."""
        known = {"%(architecture)s has no block %(beyond)s": "Bloko %(beyond)s mankas al %(architecture)s"}
        return known.get(str(message), str(message) if "%(" in str(message) else str(message).upper())


@pytest.fixture
def esperanto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(i18n, "translations", lambda _code: Esperanto())


def test_a_refusal_in_the_source_is_a_message_with_names_for_its_values() -> None:
    assert sorted(message for _line, message in templates(ast.parse(SOURCE))) == [
        "%(name)s has %(blocks)s blocks and %(blocks2)s%% of them",
        "at most %(most)s",
        "give one",
        "use LoRA",
    ]


def test_english_stays_as_it_was() -> None:
    said = [error for a in adaptations(MODEL) for error in (a.incompatibility, *a.advice) if error]
    said += LoraSpec(r=300).advice(MODEL)
    assert said
    assert [told(error) for error in said] == said
    assert translated("100% of what nobody said") == "100% of what nobody said"


@pytest.mark.usefixtures("esperanto")
def test_a_sentence_takes_its_values_along() -> None:
    incompatibility = LoraSpec(layers_to_transform=[7]).incompatibility(MODEL)
    assert incompatibility
    assert told(incompatibility) == FieldError(
        "layers_to_transform", f"Bloko 7 mankas al {MODEL.architecture}", "from 0 to 5"
    )
    assert translated("no worker was asked") == "no worker was asked"


@pytest.mark.usefixtures("esperanto")
def test_pages_say_names_and_refusals_in_the_readers_language(registered_only: TestClient) -> None:
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
