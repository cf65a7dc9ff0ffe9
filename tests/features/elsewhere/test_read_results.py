"""Imported results: files of Vezna's form and of PEFT's, and any other document."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.imports.result import ImportedResult
from app.features.elsewhere.rules import MOST_FILE_BYTES, MOST_RESULTS, NamedText, Refused, read, shown_name
from tests.support.rows.imported_results import HERE, as_file, peft_files, result

TWICE = "The setting is given twice: in an object, and with dots in its name"


def refused(text: str | bytes) -> tuple[str, str, str]:
    """Path, message and remedy of the first thing that is wrong."""
    with pytest.raises(Refused) as error:
        read(NamedText("results.json", text))
    first = error.value.errors[0]
    return first.path, first.message, first.remedy


def wrong(**changes: Any) -> tuple[str, str, str]:
    """The same of a result with something changed."""
    return refused(json.dumps(result(**changes)))


def test_a_file_holds_one_result_or_a_list_of_them() -> None:
    [one] = read(as_file(result()))
    assert (one.result.label, one.result.score, one.result.kind, one.result.its_family) == (
        "LoRA r=8", 0.75, "lora", "lora"
    )  # fmt: skip
    assert [r.result.seed for r in read(as_file(result(), result(seed=1)))] == [0, 1]


def test_a_method_of_another_name_says_its_family() -> None:
    [one] = read(as_file(result(method="tiny-thing", family="low-rank")))
    assert (one.result.kind, one.result.its_family) == ("tiny-thing", "low-rank")
    [other] = read(as_file(result(method=None, family="scaling")))
    assert (other.result.kind, other.result.its_family) == ("other scaling", "scaling")
    path, _message, remedy = wrong(method="tiny-thing")
    assert path == "method"
    assert "add the family of another method" in remedy


def test_settings_are_flattened_and_lists_are_words() -> None:
    [one] = read(as_file(result(settings={"optimizer": {"lr": 0.1}, "targets": ["q", "v"], "amp": False})))
    assert one.result.settings == {"optimizer.lr": 0.1, "targets": "q, v", "amp": False}


def test_the_same_result_has_the_same_hash_and_another_has_another() -> None:
    [one], [again] = read(as_file(result())), read(as_file(result(), name="copy.json"))
    assert one.content_hash == again.content_hash
    assert one.content_hash != read(as_file(result(seed=1)))[0].content_hash
    there, back = ({"a": 1.0, "b": 0.5}, {"b": 0.5, "a": 1.0})
    hashes = {read(as_file(result(items=None, item_scores=s)))[0].content_hash for s in (there, back)}
    assert len(hashes) == 2  # the order of the items is which item is which


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The file is empty"),
        (" \n", "The file is empty"),
        ("[]", "The list is empty"),
        ("score: 1", "The file is not JSON: Expecting value in line 1, column 1"),
        ('{"score": 0.5', "The file is not JSON: Expecting ',' delimiter in line 1, column 14"),
        ('{"score": NaN}', "NaN is not a number in JSON"),
        ('{"score": -Infinity}', "-Infinity is not a number in JSON"),
        ('{"score": 1, "score": 0}', "The field occurs twice"),
        (b"\xff\xfe\x00", "The file is not UTF-8 text (byte 0)"),
        ("[" * 100_000, "The file is nested too deeply, or has a number that is too long"),
        ("9" * 10_000, "The file is nested too deeply, or has a number that is too long"),
        ("47", "Must be an object"),
        ("x" * (MOST_FILE_BYTES + 1), f"The file has {MOST_FILE_BYTES + 1} bytes"),
    ],
)
def test_what_is_no_file_of_results_is_refused_with_a_sentence(text: str | bytes, message: str) -> None:
    _path, said, remedy = refused(text)
    assert said == message
    assert remedy


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"score": None}, "score", "This field is required"),
        ({"source": None}, "source", "This field is required"),
        ({"seed": None}, "seed", "This field is required"),
        ({"score": 47}, "score", "A score is a fraction from 0 to 1, not 47"),
        ({"score": -0.1}, "score", "A score is a fraction from 0 to 1, not -0.1"),
        ({"score": "0.47"}, "score", "Must be a number, not '0.47'"),
        ({"score": True}, "score", "Must be a number, not True"),
        ({"items": 0}, "items", "Must be 1 or more"),
        ({"items": 1.5}, "items", "Must be a whole number"),
        ({"peak_bytes": -1}, "peak_bytes", "Must be 0 or more"),
        ({"train_seconds": -2.0}, "train_seconds", "Must be 0 or more"),
        ({"accuracy": 0.5}, "accuracy", "There is no such field"),
        ({"label": " "}, "label", "Must not be empty"),
        ({"label": "a\x00b"}, "label", "The character U+0000 cannot be printed"),
        ({"label": "a\u202eb"}, "label", "The character U+202E cannot be printed"),
        ({"metric": "a metric of a long name"}, "metric", "Must have at most 20 characters"),
        ({"item_scores": {}}, "item_scores", "item_scores has 0 items"),
        ({"item_scores": {"a": 1, "b": 0}}, "items", "items is 400, but item_scores has 2 items"),
        (
            {"items": None, "item_scores": {"a": 1, "b": 0}},
            "score",
            "The score is 0.75, but the mean of item_scores is 0.5",
        ),
        ({"items": None, "item_scores": {"a": 47}}, "item_scores.a", "A score is a fraction from 0 to 1, not 47"),
        ({"items": None, "item_scores": {" ": 0.75}}, "item_scores", "The item name ' ' is empty or not printable"),
        (
            {"trainable_parameters": 9, "total_parameters": 8},
            "trainable_parameters",
            "9 of 8 parameters cannot be trainable",
        ),
        ({"family": "full"}, "family", "lora belongs to the family lora"),
        ({"settings": {"a": {"b": {"c": {"d": {"e": 1}}}}}}, "settings.a.b.c.d", "Objects are nested too deeply"),
        ({"settings": {"a\x07": 1}}, "settings.a�", "The name of a setting is not printable or too long"),
        ({"settings": {str(n): n for n in range(301)}}, "settings", "The result has 301 settings"),
        ({"settings": {"a": {"b": 1}, "a.b": 2}}, "settings.a.b", TWICE),
        ({"settings": {"a.b": 2, "a": {"b": 1}}}, "settings.a.b", TWICE),
        ({"settings": {"a": {"b.c": 2, "b": {"c": 1}}}}, "settings.a.b.c", TWICE),
        ({"seed": -1}, "seed", "Must be 0 or more"),
        ({"versions": {"to\0rch": "2.13.0"}}, "versions.to�rch", "The character U+0000 cannot be printed"),
        ({"versions": {"torch": "2\0"}}, "versions.torch", "The character U+0000 cannot be printed"),
        ({"settings": {"\ud800": 1}}, "settings.�", "The name of a setting is not printable or too long"),
        ({"settings": {"a": "\ud800"}}, "settings.a", "The value contains a character that cannot be printed"),
        ({"a\0": 1}, "a�", "There is no such field"),
        ({"score": 10**400}, "score", "The number is too large to store"),
        ({"seed": 10**400}, "seed", "Must be below 4294967296"),
        ({"settings": {"a": {"b": -(10**400)}}}, "settings.a.b", "The number is too large to store"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_remedy(changes: dict[str, Any], path: str, message: str) -> None:
    where, said, remedy = wrong(**changes)
    assert (where, said) == (path, message)
    assert remedy or said.startswith(("Must ", "This field is required"))  # which say what to do themselves


@pytest.mark.parametrize("field", ["score", "train_seconds", "learning_rate", "tokens"])
def test_a_number_that_json_reads_as_infinity_is_refused(field: str) -> None:
    text = json.dumps(result(**{field: 0.5})).replace(f'"{field}": 0.5', f'"{field}": 1e999')
    assert refused(text)[:2] == (field, "The number is too large to store")


def test_a_setting_of_infinity_is_refused_and_never_kept_as_nothing() -> None:
    text = json.dumps(result(settings={"optimizer": {"clip": 0.5}})).replace("0.5", "1e999")
    assert refused(text) == (
        "settings.optimizer.clip",
        "The number is too large to store",
        "Use at most 1.8e308, or put a setting in quotes",
    )
    [kept] = read(as_file(result(settings={"clip": "1e999", "most": 1.7e308})))
    assert kept.result.settings == {"clip": "1e999", "most": 1.7e308}


@pytest.mark.parametrize("deep", [*range(850, 1000, 5), 20_000])
def test_lists_in_lists_are_refused_however_deep(deep: int) -> None:
    text = json.dumps(result(settings={"a": "@"})).replace('"@"', "[" * deep + "]" * deep)
    try:
        read(NamedText("deep.json", text))
    except Refused as error:
        assert "deep" in error.errors[0].message


def test_a_field_that_is_there_twice_is_named_so_that_it_can_be_shown() -> None:
    assert refused(r'{"\ud800": 1, "\ud800": 2}')[:2] == ("�", "The field occurs twice")


def test_percent_is_told_how_it_is_written() -> None:
    assert wrong(score=47)[2] == "Write 47 % as 0.47"


def test_an_entry_of_a_list_is_named_by_its_place_and_the_file_is_refused_whole() -> None:
    with pytest.raises(Refused) as error:
        read(as_file(result(), result(score=2), result(items=0)))
    assert [e.path for e in error.value.errors] == ["1.score", "2.items"]
    assert refused(json.dumps([result()] * (MOST_RESULTS + 1)))[1] == f"The file has {MOST_RESULTS + 1} results"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("lora.json", "lora.json"),
        ("../../etc/passwd", "passwd"),
        ("C:\\results\\a.json", "a.json"),
        ("a\x00\n\u202eb.json", "a���b.json"),
        ("", "unnamed"),
        ("/", "unnamed"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_files_name_opens_nothing_and_is_shown_without_what_cannot_be_printed(name: str, kept: str) -> None:
    assert shown_name(name) == kept


ENORMOUS = 8.125e300
"""Stands for a number that JSON can write and no float can hold."""
OURS = result(
    method="lora",
    family="lora",
    items=None,
    item_scores={"a": 1, "b": 0.5},
    score=0.75,
    base_model="tiny",
    dataset="small",
    learning_rate=1e-3,
    versions={"torch": "2.13.0", "peft": "0.19.2"},
    steps=10,
    tokens=2800,
    memory_measure="reserved",
    trainable_parameters=5,
    total_parameters=10,
    file_bytes=100,
    settings={"optimizer": {"lr": 0.1}, "targets": ["q", "v"]},
)
PEFT = [json.loads(path.read_bytes()) for path in sorted(HERE.glob("*.json"))]

texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["\0", "a\0b", "\ud800", "\u202e", "", " ", "\n", "LORA", "success", "1e999", "x" * 600]),
)
numbers = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([ENORMOUS, 10**400, -(10**400)])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
anything = st.recursive(
    scalars, lambda inside: st.one_of(st.lists(inside, max_size=4), st.dictionaries(texts, inside, max_size=4))
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something lies in a document, the document itself first."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in inside:
        yield from places(below, (*path, name))


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A document with something else in a place."""
    if not path:
        return value
    whole = copy.deepcopy(document)
    at = whole
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return whole


def renamed(document: Any, path: tuple[Any, ...], name: str) -> Any:
    """A document with another key in a place, where there is one."""
    whole = copy.deepcopy(document)
    at = whole
    for step in path[:-1]:
        at = at[step]
    if path and isinstance(at, dict):
        at[name] = at.pop(path[-1])
    return whole


@st.composite
def changed(draw: st.DrawFn) -> str:
    """A document of ours or of PEFT's in which a few things are changed, as JSON."""
    document = draw(st.sampled_from([OURS, *PEFT]))
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(list(places(document))))
        document = draw(st.sampled_from([put, renamed]))(document, path, draw(texts))
        path = draw(st.sampled_from(list(places(document))))
        document = put(document, path, draw(anything))
    many = draw(st.booleans())
    return json.dumps([OURS, document] if many else document).replace(str(ENORMOUS), "1e999")


def check(text: str | bytes) -> None:
    """It is read or refused, and both can be written down."""
    try:
        found = read(NamedText("any.json", text))
    except Refused as refused:
        assert refused.errors
        for error in refused.errors:
            f"{error.path}{error.message}{error.remedy}".encode()
        return
    for one in found:
        said = one.result.model_dump(mode="json")
        for path in places(said):
            at = said
            for name in path:
                at = at[name]
            assert all(str(name).isprintable() for name in path)
            assert not isinstance(at, str) or at.isprintable()
        assert json.loads(json.dumps(said, allow_nan=False)) == said
        assert type(one.result).model_validate(said) == one.result, "it comes back from the database as it went"


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changed())
def test_a_document_in_which_anything_is_changed_is_read_or_refused(text: str) -> None:
    check(text)


@settings(max_examples=100, deadline=None)
@given(st.one_of(anything.map(json.dumps), st.text(), st.binary()))
def test_what_is_no_result_at_all_is_refused(text: str | bytes) -> None:
    with pytest.raises(Refused):
        read(NamedText("any.json", text))


def results(folder: Path = HERE) -> dict[str, ImportedResult]:
    """By file."""
    return {file.name: read(file)[0].result for file in peft_files(folder)}


def edited(path: str, value: Any) -> NamedText:
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
    [found] = read(edited("train_info.metrics", [last]))
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
        read(edited(path, value))
    assert (error.value.errors[0].path, error.value.errors[0].message) == (where, message)


@pytest.mark.parametrize(
    "targets", [["q_proj", 4, None, {"a": 1}], [["q"], "v"], 3, {"q_proj": True}, "all-linear", [True, 1.5]]
)
def test_targets_are_kept_whatever_they_are(targets: Any) -> None:
    [found] = read(edited("run_info.peft_config.target_modules", targets))
    assert any(name.startswith("peft.target_modules") for name in found.result.settings)


def test_a_score_of_infinity_is_refused() -> None:
    file = edited("train_info.metrics", [{"step": 1, "test accuracy": 0.5}])
    with pytest.raises(Refused) as error:
        read(NamedText(file.name, str(file.text).replace('"test accuracy": 0.5', '"test accuracy": 1e999')))
    assert (error.value.errors[0].path, error.value.errors[0].message) == (
        "score", "The number is too large to store"
    )  # fmt: skip


def test_a_datasets_name_may_have_a_dot() -> None:
    [found] = read(edited("meta_info.dataset_info", {"gsm8k.v1": {"sha": "1"}, "gsm8k": {"sha": "740312add88f"}}))
    assert found.result.test_set == "GSM8K test split, 740312add88f"
