"""Result files of PEFT's method comparison: read as published, with names that a person would give."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from app.domain.imports.result import ImportedResult
from app.features.elsewhere.rules import NamedText, Refused, read
from tests.support.rows.imported_results import HERE, peft_files


def results(folder: Path = HERE) -> dict[str, ImportedResult]:
    """By file."""
    return {file.name: read(file)[0].result for file in peft_files(folder)}


def changed(path: str, value: Any) -> NamedText:
    """The file of LoRA with one thing changed."""
    document = json.loads((HERE / "lora--llama-3.2-3B-rank32.json").read_bytes())
    whole = copy.deepcopy(document)
    *parents, last = path.split(".")
    place = whole
    for name in parents:
        place = place[name]
    place[last] = value
    return NamedText("lora.json", json.dumps(whole))


def test_a_file_says_what_was_reached_and_what_it_cost() -> None:
    found = results()["lora--llama-3.2-3B-rank32.json"]
    assert (found.label, found.method, found.family, found.seed) == ("LoRA r=32", "lora", "lora", 0)
    assert (found.score, found.items, found.test_set) == (631 / 1319, 1319, "GSM8K test split, 740312add88f")
    assert (found.base_model, found.dataset) == ("meta-llama/Llama-3.2-3B", "MetaMathQA, aa4f34d3d2d3")
    assert (found.device, found.precision, found.learning_rate) == ("NVIDIA L40S", "bf16", 1e-4)
    assert (found.steps, found.tokens, found.peak_bytes) == (5000, 4198051, 22292725760)
    assert (found.trainable_parameters, found.total_parameters, found.file_bytes) == (9175040, 3221924864, 36715216)
    assert found.train_seconds == pytest.approx(941.959, abs=1e-3)
    assert found.libraries == "torch 2.13.0+cu130, transformers 5.13.1"
    assert (found.settings["peft.target_modules"], found.settings["batch_size"]) == ("q_proj, v_proj", 4)
    assert found.source == "PEFT method_comparison, MetaMathQA: lora/llama-3.2-3B-rank32, 2026-07-15"


def test_its_names_are_those_that_a_person_would_give() -> None:
    assert {found.label for found in results().values()} == {
        "full", "LoRA r=32", "rsLoRA r=64", "MiSS-mini", "TinyLoRA tied"
    }  # fmt: skip


def test_a_score_that_is_no_whole_number_of_the_tests_items_leaves_their_number_unknown() -> None:
    last = {"step": 5000, "test accuracy": 0.4783}
    [found] = read(changed("train_info.metrics", [last]))
    assert found.result.items is None


@pytest.mark.parametrize(
    ("path", "value", "where", "message"),
    [
        ("train_info.status", "failed", "train_info.status", "The status is 'failed', not success"),
        ("train_info.metrics", [], "train_info.metrics", "There are no metrics"),
        ("train_info.metrics", [{"step": 1}], "train_info.metrics.0.test accuracy", "This field is required"),
        ("train_info.metrics", [{"test accuracy": 47.8}], "score", "A score is a fraction from 0 to 1, not 47.8"),
        ("train_info.accelerator_memory_max", -5, "peak_bytes", "Must be 0 or more"),
        ("train_info", 3, "train_info", "Must be an object"),
        ("run_info.train_config", None, "run_info.train_config", "Must be an object"),
        ("run_info.peft_config", {"r": 4}, "run_info.peft_config.peft_type", "This field is required"),
        ("run_info.peft_config", [4], "run_info.peft_config", "Must be an object"),
        ("meta_info", {"dataset_info": [1], "package_info": 3}, "meta_info.dataset_info", "Must be an object"),
        ("run_info.train_config.optimizer_kwargs", "x", "run_info.train_config.optimizer_kwargs", "Must be an object"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_it_should_be_says_where(path: str, value: Any, where: str, message: str) -> None:
    with pytest.raises(Refused) as error:
        read(changed(path, value))
    assert (error.value.errors[0].path, error.value.errors[0].message) == (where, message)


@pytest.mark.parametrize(
    "targets", [["q_proj", 4, None, {"a": 1}], [["q"], "v"], 3, {"q_proj": True}, "all-linear", [True, 1.5]]
)
def test_targets_are_kept_whatever_they_are(targets: Any) -> None:
    [found] = read(changed("run_info.peft_config.target_modules", targets))
    assert any(name.startswith("peft.target_modules") for name in found.result.settings)


def test_a_score_of_infinity_is_refused() -> None:
    file = changed("train_info.metrics", [{"step": 1, "test accuracy": 0.5}])
    with pytest.raises(Refused) as error:
        read(NamedText(file.name, str(file.text).replace('"test accuracy": 0.5', '"test accuracy": 1e999')))
    assert (error.value.errors[0].path, error.value.errors[0].message) == (
        "score", "The number is too large to store"
    )  # fmt: skip


def test_a_datasets_name_may_have_a_dot() -> None:
    [found] = read(changed("meta_info.dataset_info", {"gsm8k.v1": {"sha": "1"}, "gsm8k": {"sha": "740312add88f"}}))
    assert found.result.test_set == "GSM8K test split, 740312add88f"
