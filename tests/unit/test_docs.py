"""The docs say what the code does: every setting, command, route, method, failure code; and the examples are true."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import SecretStr

from app.cli.language import VARIABLE as LANGUAGE_VARIABLE
from app.cli.program import cli
from app.cli.users.credentials import FILE_VARIABLE, VARIABLE
from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.comparison.fairness.reproduction import ReproductionOutcome
from app.domain.data.findings import FindingCode
from app.domain.failures import FailureCode
from app.domain.methods import METHODS, SPECS
from app.domain.models.exports import ExportFormat
from app.domain.resources.calibration import ASSUMED
from app.domain.resources.devices import MIB, DeviceKind
from app.domain.runs.clocks import Clocks
from app.domain.runs.listing.fields import FIELDS
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.studies.spec import StudySpec
from app.domain.tasks import METRICS, TASKS
from app.features.recipes import service as recipes
from app.main import create_app
from app.samples import samples as sample
from app.settings import ROOT, Settings
from tests.integration.deploy.container_files import compose_variables

DOCS = ROOT / "docs"


def rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables: the first cell without backticks, and the others."""
    found = {}
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("| `"):
            first, *others = [cell.strip() for cell in line.strip("|").split("|")]
            found[first.strip("`")] = others
    return found


def shown(value: Any) -> str:
    """A default as one would write it in the environment."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool | list):
        return f"`{json.dumps(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_assumed_device_constants_are_documented(device: DeviceKind) -> None:
    both = [[part // MIB for part in ASSUMED[device, bf16]] for bf16 in (False, True)]
    assert rows("measuring.md")[device][:2] == [f"{constant} ± {band} MiB" for constant, band in both]


def names_of_commands() -> set[str]:
    """Of commands, and of groups of them."""
    commands = {command.name or command.callback.__name__ for command in cli.registered_commands if command.callback}
    return commands | {group.name for group in cli.registered_groups if group.name}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_its_default_and_meaning(name: str) -> None:
    default, meaning = rows("configuration.md")[f"VEZNA_{name.upper()}"]
    assert default == shown(Settings.model_fields[name].get_default(call_default_factory=True))
    assert meaning.endswith(".")


def test_no_unknown_setting_is_documented() -> None:
    known = {f"VEZNA_{name.upper()}" for name in Settings.model_fields}
    files = {f"VEZNA_{name.upper()}_FILE" for name in Settings.secrets()}
    elsewhere = compose_variables() | {VARIABLE, FILE_VARIABLE, LANGUAGE_VARIABLE}
    for page in [*DOCS.glob("*.md"), ROOT / "README.md"]:
        assert set(re.findall(r"VEZNA_[A-Z_0-9]+", page.read_text())) <= known | files | elsewhere, page.name


def test_exactly_the_commands_are_documented() -> None:
    commands = names_of_commands()
    told = {first.split()[1] for first in rows("configuration.md") if first.startswith("vezna ")}
    assert told == commands


def test_exactly_the_failure_codes_are_documented() -> None:
    assert set(rows("failures.md")) == {code.value for code in FailureCode}


def test_exactly_the_export_formats_and_outcomes_are_documented() -> None:
    assert set(rows("shipping.md")) == {form.value for form in (*ExportFormat, *GateOutcome, *ReproductionOutcome)}


@pytest.mark.parametrize("kind", SPECS)
def test_every_method_is_documented_with_its_learning_rate_and_fields(kind: str) -> None:
    what, rate, fields = rows("api.md")[kind]
    assert (what, float(rate)) == (METHODS[kind].summary, METHODS[kind].rate_multiple)
    assert re.findall(r"`(\w+)`", fields) == [name for name in SPECS[kind].model_fields if name != "kind"]


def test_every_method_is_documented_with_its_papers() -> None:
    told, page = rows("methods.md"), (DOCS / "methods.md").read_text()
    for kind, facts in METHODS.items():
        assert kind in told
        assert set(re.findall(r"arXiv \d{4}\.\d{5}", facts.paper)) <= set(re.findall(r"arXiv \d{4}\.\d{5}", page))


def test_the_readme_has_the_number_of_methods() -> None:
    assert re.findall(r"\[(\d+) of them\]\(docs/methods\.md\)", (ROOT / "README.md").read_text()) == [str(len(METHODS))]


def test_every_decision_is_in_the_index_by_its_number_and_its_title() -> None:
    index = (DOCS / "decisions" / "README.md").read_text()
    told = re.findall(r"^- \[(.+)\]\((.+)\)$", index, re.MULTILINE)
    pages = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    titles = [page.read_text().splitlines()[0].removeprefix("# ") for page in pages]
    assert told == [(title, page.name) for title, page in zip(titles, pages, strict=True)]


def test_every_task_is_documented_with_its_formats_and_metrics() -> None:
    told = {first: cells for first, cells in rows("api.md").items() if first in TASKS}
    assert list(told) == list(TASKS)
    for task in TASKS.values():
        formats, usual, others = told[task.name]
        assert formats == ", ".join(task.formats)
        able = {name for name in task.metrics if METRICS[name].per_item}
        assert {usual, *re.findall(r"`(\w+)`", others)} == {f"`{task.metric}`", *(able - {task.metric})}


def test_every_metric_is_documented_with_its_definition() -> None:
    told = {first: cells for first, cells in rows("measuring.md").items() if first in METRICS}
    assert {name: definition for name, (_of, definition) in told.items()} == {
        name: facts.definition for name, facts in METRICS.items()
    }


def test_exactly_the_findings_are_documented() -> None:
    table = (DOCS / "data.md").read_text().split("## Findings")[1]
    told = re.findall(
        r"`([a-z-]+)`", " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    )
    assert sorted(told) == sorted(get_args(FindingCode))


def test_every_clock_is_documented() -> None:
    assert set(Clocks.model_fields) <= set(rows("measuring.md"))


def test_every_training_argument_is_documented() -> None:
    text = (DOCS / "api.md").read_text()
    assert [name for name in TrainingArguments.model_fields if f"`{name}`" not in text] == []


@pytest.mark.slow
def test_exactly_the_routes_are_documented(tmp_path: Path) -> None:
    paths = create_app(Settings(home=tmp_path)).openapi()["paths"]
    told = {first for first in rows("api.md") if first.startswith(("DELETE /", "GET /", "PATCH /", "POST /", "PUT /"))}
    assert told == {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_every_command_that_a_page_shows_exists() -> None:
    commands = names_of_commands()
    for page in [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "docker-compose.yml"]:
        shown_there = set(re.findall(r"(?:^|`|web )vezna ([a-z]+(?:-[a-z]+)*)\b", page.read_text(), re.MULTILINE))
        assert shown_there <= commands, page.name


def example(name: str) -> Any:
    return yaml.safe_load((ROOT / "examples" / f"{name}.yaml").read_text())


def test_the_examples_are_the_sample_study_and_its_run() -> None:
    assert StudySpec.model_validate(example("study")) == sample.study()
    assert RunSpec.model_validate(example("run")) == sample.study().with_default_rates(384).owed()[1].spec


@pytest.mark.parametrize("name", ["causal-lm", "seq2seq-lm", "sentence-embeddings", "preference", "tuned"])
def test_an_example_shows_the_feature_that_it_is_named_after(name: str) -> None:
    spec = StudySpec.model_validate(example(name))
    assert name == (spec.task if spec.tuning.kind == "none" else "tuned")


@pytest.mark.parametrize("page", [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("README*.md"))], ids=lambda p: p.name)
def test_no_link_is_broken(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|mailto:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_exactly_the_fields_of_filters_are_documented_with_their_other_names() -> None:
    told = {name: tuple(re.findall(r"`(\w+)`", cells[0])) for name, cells in rows("filters.md").items()}
    assert told == {name: field.also for name, field in FIELDS.items()}


FAULTS = set(range(1, 26))
FAULT_TEST = re.compile(r"`tests/faults/\w+/(test_(\d\d)_\w+\.py)`")
AS_ABOVE = ("both", "the same")


def test_every_test_that_reliability_rests_on_exists_and_every_fault_has_one() -> None:
    page = (DOCS / "reliability.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)`", page)
    assert [name for name in named if not (ROOT / name).is_file()] == []
    rows = re.findall(r"^\| (\d+) \|.* \| (.*) \|$", page, re.MULTILINE)
    tests = [(int(row), name, int(number)) for row, cell in rows for name, number in FAULT_TEST.findall(cell)]
    assert all(row == number for row, _, number in tests)
    files = {path.name for path in (ROOT / "tests" / "faults").rglob("test_[0-9]*.py")}
    assert {name for _, name, _ in tests} == files, "docs/reliability.md has a row for each fault"
    assert {row for row, _, _ in tests} == FAULTS


def test_every_guarantee_names_a_test() -> None:
    page = (DOCS / "reliability.md").read_text()
    tables = re.findall(r"^\| guarantee \| enforced by \|\n\|---\|---\|\n((?:\|.*\|\n)+)", page, re.MULTILINE)
    cells = [line.strip("| ").rpartition(" | ")[2] for table in tables for line in table.splitlines()]
    assert len(cells) > 20
    assert [cell for cell in cells if not re.search(r"`tests/[\w/]+\.py`", cell) and cell not in AS_ABOVE] == []


def test_every_recipe_has_a_card_with_its_rule() -> None:
    page = (DOCS / "recipes.md").read_text()
    cards = re.findall(r"^### (.+): (?:reproduced|not reproduced|undecided)$", page, re.MULTILINE)
    files = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
    assert files == recipes.library().keys() and len(files) >= 8
    assert sorted(cards) == sorted(recipe.title for recipe in recipes.library().values())
    assert "not run yet" not in page.lower()
    for recipe in recipes.library().values():
        assert f"- Rule: {recipe.rule}" in " ".join(page.split()), recipe.id
