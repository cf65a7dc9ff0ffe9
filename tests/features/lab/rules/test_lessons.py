"""Steps and pitfalls of the Lab: their files, and well-known architectures."""

import re
from typing import get_args

import pytest
from pydantic import ValidationError

from app.domain.errors import Invalid, NotFound
from app.domain.methods import SPECS, LoraSpec
from app.domain.models.adaptations import adaptations
from app.features.lab.computations import MatrixOf
from app.features.lab.rules.architectures import Architecture
from app.features.lab.rules.techniques import OTHER_PARTS, parts, technique
from app.features.lab.services import lessons
from app.settings import ROOT

TEMPLATES = ROOT / "templates" / "features" / "lab"
TEXT = "{en: a, bg: b}"
LESSON = f"title: {TEXT}\nlead: {TEXT}\nabout: {TEXT}\nminutes: 9\nquestion: margin\n"


SCRIPTS = "low-rank.js", "null-studies.js"
"""That draw with sentences of a lesson."""


def test_every_sentence_of_a_lesson_is_on_its_page_and_the_other_way_round() -> None:
    assert lessons.library()
    for topic, lesson in lessons.library().items():
        folder = "steps" if topic in lessons.STEPS else "pitfalls"
        own = (TEMPLATES / folder / f"{topic}.html").read_text(encoding="utf-8")
        shared = "".join(file.read_text(encoding="utf-8") for file in TEMPLATES.glob("*.html"))
        shared += "".join((ROOT / "static" / "js" / name).read_text(encoding="utf-8") for name in SCRIPTS)
        called = set(re.findall(r'say\("([^"]+)"[,)]', own))
        assert called <= set(lesson.texts), topic
        ends = tuple(re.findall(r'say\(\w+ ~ "([^"]+)"\)', own + shared))
        unused = {
            name for name in set(lesson.texts) - {*get_args(MatrixOf), *OTHER_PARTS} if f'"{name}"' not in own + shared
        }
        assert not [name for name in unused if not name.endswith(ends or ("\0",))], topic


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LESSON.replace("minutes: 9", "minutes: 0"), "minutes"),
        (LESSON.replace("lead: {en: a, bg: b}\n", ""), "lead"),
        (LESSON + "texts: {move: {en: only English}}\n", "bg"),
        ("title: [", "is not YAML"),
    ],
)
def test_an_invalid_lesson_is_refused_with_its_field(text: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        lessons.read("step-5.yaml", text)


def test_the_question_of_a_lesson_exists() -> None:
    with pytest.raises(NotFound, match="nothing-known"):
        lessons.read("step-5.yaml", LESSON.replace("question: margin", "question: nothing-known"))


def test_the_courses_examples_are_counted_exactly() -> None:
    t5 = lessons.architectures()["T5-base"].model
    assert t5.total == 222_903_552
    assert LoraSpec(r=8, lora_alpha=32, target_modules=["q", "v"]).trainable(t5) == 884_736


def test_berts_classifier_has_two_labels() -> None:
    bert = lessons.architectures()["BERT-base"].model
    assert bert.total == 109_483_778  # as transformers counts BertForSequenceClassification
    everywhere = sorted({m.name.rpartition(".")[2] for m in bert.linear})
    assert LoraSpec(r=8, lora_alpha=16, target_modules=everywhere).trainable(bert) == 1_339_392 + 1_538
    assert {a.facts.kind: a.trainable for a in adaptations(bert)}["head-only"] == 1_538
    assert all(
        size > 0 for known in lessons.architectures().values() for p in known.model.parameters for size in p.shape
    )


@pytest.mark.parametrize("part", ["linear", "parameters"])
def test_a_size_that_is_a_placeholder_is_refused(part: str) -> None:
    content = lessons.architectures()["BERT-base"].model_dump()
    content[part]["classifier"] = (-1, 768, 1, 0)
    with pytest.raises(ValidationError, match=rf"{part}\.classifier\.0\n  Input should be greater than 0"):
        Architecture.model_validate(content)


@pytest.mark.parametrize("name", list(lessons.architectures()))
def test_methods_apply_to_every_well_known_architecture(name: str) -> None:
    model = lessons.architectures()[name].model
    able = {adapted.facts.kind: adapted.trainable for adapted in adaptations(model) if adapted.incompatibility is None}
    assert {"full", "lora", "ia3", "bitfit" if model.has_bias else "prompt"} <= set(able) <= set(SPECS)
    assert able["full"] == model.total


@pytest.mark.parametrize("name", list(lessons.architectures()))
def test_the_parts_of_a_model_and_what_trains_in_them_add_up(name: str) -> None:
    model = lessons.architectures()[name].model
    methods = [technique(kind, model) for kind in ("full", "lora", "ia3", "bottleneck-adapter", "prompt")]
    able = [method for method in methods if method.incompatibility(model) is None]
    found = parts(model, able)
    assert sum(part.parameters for part in found) == model.total
    for place, method in enumerate(able):
        assert sum(part.trains[place] for part in found) == method.trainable(model)
