"""Every method and every field of it is in the form, by its own definition: read, written, explained, refused."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.domain.data.dataset import SAMPLE_DATASET
from app.domain.methods import SPECS, AnyMethod, LoraSpec
from app.domain.models.adaptations import usual
from app.domain.models.base_model import SAMPLE_MODEL
from app.domain.runs.capabilities import Capability
from app.domain.runs.training import TrainingArguments
from app.domain.studies.arms import ArmSpec
from app.domain.studies.tuning.tuning import TpeTuning
from app.services.workers import workers
from app.store.studies import queries as studies
from app.web.forms.fields import Field, fields_of
from app.web.pages.new_study.arm_form import METHOD, SHARED, ArmForm
from app.web.pages.new_study.form import BUDGET
from app.words.models.methods import FAMILIES, by_family
from app.words.runs.fields import ARM_FIELDS, METHOD_FIELDS, OPTIONS, TRAINING_FIELDS
from tests.support.filled import filled
from tests.unit.web.conftest import database_of

METHOD_NAMES = {field.name for spec in SPECS.values() for field in fields_of(spec)}
OTHERWISE: dict[str, Any] = {"modules": ["query", "key"], "numbers": [0, 2], "text": "mine"}


def otherwise(field: Field) -> Any:
    """A value that is not the field's default."""
    match field.kind:
        case "flag":
            return field.default == "false"
        case "choice":
            return next(c for c in (*field.choices[::-1],) if c != field.default)
        case "number":
            number = float(field.default or 1)
            return int(number * 2 or 1) if field.whole else number / 2 or 0.25
        case _:
            return OTHERWISE[field.kind]


def arm_form(kind: str, method: AnyMethod) -> dict[str, str]:
    """A form with this arm alone, as a browser would send it."""
    arm = ArmForm.of(ArmSpec(method=method))
    values = {f"arms.0.{name}": value for name, value in arm.values.items()}
    study = {"name": "Mine", "base_model": SAMPLE_MODEL, "dataset": SAMPLE_DATASET, "seeds": "1", "margin_points": "1"}
    return study | {"arms.0.method.kind": kind} | values


def sign_on(session: Session, capabilities: Sequence[Capability]) -> None:
    """A worker that can do these is there, and no other."""
    workers.sign_on(
        session, "cpu-9", device="cpu", device_name="CPU", memory_bytes=None, cores=2, capabilities=capabilities
    )


def errors(text: str) -> str:
    """The page's list of errors."""
    return text.split('id="errors"')[1].split("</div>")[0]


@pytest.mark.parametrize("kind", SPECS)
def test_a_new_arm_is_the_method_as_it_is_by_default(kind: str) -> None:
    assert ArmForm.new(kind).method == SPECS[kind]()
    assert ArmForm.new(kind).title == SPECS[kind]().label


@pytest.mark.parametrize("kind", SPECS)
def test_what_a_spec_says_is_written_and_read_again(kind: str) -> None:
    for field in fields_of(SPECS[kind]):
        try:
            method = SPECS[kind].model_validate({field.name: otherwise(field)})
        except ValidationError:
            continue  # it does not go with the defaults of the others
        assert method != SPECS[kind](), field.name
        assert ArmForm.of(ArmSpec(method=method)).method == method, field.name


@pytest.mark.by_day
@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_is_added_with_all_its_fields_or_says_why_not(registered_only: TestClient, kind: str) -> None:
    form = arm_form("full", SPECS["full"]())
    text = registered_only.post("/studies/new", data=form | {"do": f"add:{kind}", "tuning.kind": "grid"}).text
    model = filled.model_facts().task_model("sequence-classification", 5)
    incompatibility = usual(kind, model).incompatibility(model)
    if incompatibility and incompatibility.path == "kind":
        assert f"Not here: {incompatibility.message}" in text
        assert f'value="add:{kind}"' not in text
    names = {f"arms.1.{METHOD}{field.name}" for field in fields_of(SPECS[kind])} | {f"arms.1.{n}" for n in SHARED}
    for name in names:
        assert re.search(rf'<(input|select) [^>]*name="{name}"', text), name
        assert f'<label for="{name.replace(".", "-")}">' in text


@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_that_fits_is_started(registered_only: TestClient, kind: str) -> None:
    model = filled.model_facts().task_model("sequence-classification", 5)
    method = usual(kind, model)
    with database_of(registered_only).transaction() as session:
        sign_on(session, list(method.needs))
    answer = registered_only.post("/studies", data=arm_form(kind, method))
    if method.incompatibility(model):
        assert answer.status_code == 422
        assert '<a href="#arms-0-method-kind">' in answer.text
    else:
        assert answer.status_code == 303, errors(answer.text)
        with database_of(registered_only).reading() as session:
            assert studies.get(session, 1).spec.arms[0].method == method


@pytest.mark.parametrize("kind", SPECS)
def test_a_number_beyond_its_bounds_is_refused_at_its_field(registered_only: TestClient, kind: str) -> None:
    wrong = {f"arms.0.{METHOD}{f.name}": f.name for f in fields_of(SPECS[kind]) if f.kind == "number"}
    if not wrong:
        return
    text = registered_only.post("/studies", data=arm_form(kind, SPECS[kind]()) | dict.fromkeys(wrong, "-2")).text
    for path in wrong:
        assert re.search(rf'id="{path.replace(".", "-")}-error-1">Must be (above|[\d.-]+ or more)', text), path
        assert re.search(rf'name="{path}"\s+value="-2"', text), path
    if not all(METHOD_FIELDS[name].basic for name in wrong.values()):
        assert '<details class="rest" id="arm-0-more" open>' in text


def test_every_field_has_a_label_and_a_hint() -> None:
    assert set(METHOD_FIELDS) == METHOD_NAMES
    assert {field.name for field in BUDGET.values()} == set(TRAINING_FIELDS)
    assert {*SHARED, *METHOD_FIELDS} == set(ARM_FIELDS)
    for table in (METHOD_FIELDS, TRAINING_FIELDS, ARM_FIELDS):
        assert [name for name, words in table.items() if not words.label or not words.hint.endswith(".")] == []
        assert [name for name, words in table.items() if len(words.hint) > 110] == []


def test_choices_in_words_are_choices_that_there_are() -> None:
    known = {
        (field.name, value)
        for model in (*SPECS.values(), TrainingArguments, TpeTuning)
        for field in fields_of(model)
        for value in (*field.choices, "")
    }
    assert set(OPTIONS) <= known


def test_every_method_stands_under_its_family() -> None:
    grouped = by_family()
    assert sorted(facts.kind for _family, _title, methods in grouped for facts in methods) == sorted(SPECS)
    assert [family for family, _title, _methods in grouped] == list(FAMILIES)


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("query, value", ["query", "value"]),
        ("query value", ["query", "value"]),
        ("all-linear", "all-linear"),
        (r".*\.layer\.[0-3]\..*query", r".*\.layer\.[0-3]\..*query"),
        ("attention.self.query", ["attention.self.query"]),
        ("peft-default", "peft-default"),
        ("", "all-linear"),
    ],
)
def test_adapted_layers_are_a_list_a_pattern_or_a_named_choice(text: str, targets: object) -> None:
    method = ArmForm.typed("lora", {"method.target_modules": text}).method
    assert isinstance(method, LoraSpec)
    assert method.target_modules == targets


def test_a_pattern_for_one_whole_name_stays_a_pattern() -> None:
    written = ArmForm.of(ArmSpec(method=LoraSpec(target_modules="query"))).values["method.target_modules"]
    again = ArmForm.typed("lora", {"method.target_modules": written}).method
    assert isinstance(again, LoraSpec)
    assert isinstance(again.target_modules, str)


def test_a_box_that_is_not_ticked_says_no(registered_only: TestClient) -> None:
    form = arm_form("oft", SPECS["oft"].model_validate({"use_cayley_neumann": False, "target_modules": ["query"]}))
    text = registered_only.post("/studies/new", data=form).text
    name = "arms.0.method.use_cayley_neumann"
    assert f'<input type="hidden" name="{name}" value="false">' in text
    assert "checked" not in re.findall(rf'<input type="checkbox"[^>]*name="{name}"[^>]*>', text)[0]


def test_a_new_arm_adapts_all_linear_layers(registered_only: TestClient) -> None:
    text = registered_only.post("/studies/new", data=arm_form("full", SPECS["full"]()) | {"do": "add:loha"}).text
    assert re.search(r'name="arms.1.method.target_modules"\s+value="all-linear"', text)


def test_a_rank_that_is_too_high_is_said_to_cost_more_than_it_brings(registered_only: TestClient) -> None:
    high = arm_form("lora", LoraSpec(r=300))
    text = registered_only.post("/studies/plan", data=high).text
    assert "A rank of 300 is high for" in text
    assert "of the matrix itself" in text
    assert "is high for" not in registered_only.post("/studies/plan", data=high | {"arms.0.method.r": "8"}).text


def test_the_names_of_the_models_layers_are_there_to_pick(registered_only: TestClient) -> None:
    text = registered_only.post("/studies/new", data=arm_form("lora", LoraSpec())).text
    picks = re.findall(r'data-picks="arms-0-method-target_modules"[^>]*>(.*?)</small>', text)[0]
    assert re.findall(r"<span>(.*?)</span>", picks) == ["all-linear", "peft-default", "query", "key", "value", "dense"]
