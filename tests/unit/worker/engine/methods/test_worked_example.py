"""The method that CONTRIBUTING.md adds is the very code that it shows, and works."""

import re
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Annotated, Any

import pytest
import torch
from peft import PeftModel
from pydantic import Field, TypeAdapter, ValidationError

from app.domain.methods import METHODS, AnyMethod, PeftMethod
from app.settings import ROOT
from tests.unit.worker.engine import adapted as tried
from tests.unit.worker.engine.methods.test_methods import put, save
from worker.engine.evaluation import audit
from worker.engine.models.architecture import describe
from worker.engine.models.inspect import on_task


def worked_through() -> str:
    """The part of the page that adds a method."""
    return (ROOT / "CONTRIBUTING.md").read_text().partition("## A method, worked through")[2]


@pytest.fixture(scope="module")
def spec_class() -> Any:
    """The spec in its first Python block."""
    block = re.search(r"^( *)```python\n(.*?)^\1```", worked_through(), re.DOTALL | re.MULTILINE)
    assert block
    module = ModuleType("app.domain.methods.householder")
    sys.modules[module.__name__] = module
    exec(compile(dedent(block[2]), "CONTRIBUTING.md", "exec"), module.__dict__)
    (found,) = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    return found


@pytest.fixture
def spec(spec_class: Any) -> PeftMethod:
    """The same, small."""
    found: PeftMethod = spec_class(r=4)
    return found


def test_the_two_lines_beside_the_file_are_shown(spec_class: Any) -> None:
    _file, lines = re.findall(r"^ *```python\n(.*?)^ *```", worked_through(), re.DOTALL | re.MULTILINE)
    imported, union = dedent(lines).strip().split("\n\n")
    found: dict[str, Any] = {}
    exec(imported, found)
    assert found["HraSpec"] is spec_class
    assert union.startswith("AnyMethod = ") and "| HraSpec |" in union


def test_it_is_no_method_yet_and_has_a_place_in_the_union(spec_class: Any) -> None:
    kind = spec_class.facts.kind
    assert kind not in METHODS
    union: TypeAdapter[Any] = TypeAdapter(Annotated[AnyMethod | spec_class, Field(discriminator="kind")])
    assert union.validate_python({"kind": kind, "r": 4}) == spec_class(r=4)
    with pytest.raises(ValidationError, match="multiple of 2"):
        union.validate_python({"kind": kind, "r": 3})


@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_it_trains_what_it_says_learns_passes_the_audit_and_loads(spec: PeftMethod, name: str, tmp_path: Path) -> None:
    model, task = tried.model(name), tried.MODELS[name]
    expected = spec.trains(on_task(model.config, task).with_labels(3))
    adapted = put(spec, name)
    audit.check_trainable(adapted, expected)
    with torch.inference_mode():
        torch.testing.assert_close(tried.logits(adapted.eval(), name), tried.logits(model, name), rtol=0, atol=1e-5)
    before = audit.hashes(adapted)
    losses = list(tried.steps(adapted, spec, name, 4))
    assert losses[-1] < losses[0]
    assert audit.compare(before, adapted, {t.name: t.group for t in expected}, ()).passed
    loaded = PeftModel.from_pretrained(tried.model(name), save(adapted, spec, name, tmp_path)).eval()
    with torch.inference_mode():
        torch.testing.assert_close(tried.logits(loaded, name), tried.logits(adapted, name), rtol=0, atol=1e-5)


def test_where_it_does_not_fit_it_says_so(spec: PeftMethod) -> None:
    fault = spec.incompatibility(describe(tried.model("gpt2"), "causal-lm"))
    assert fault is not None and "which HRA cannot adapt" in fault.message
