"""Whatever lies in a file of results, it is read or refused with sentences, and what is read can be kept and shown."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.features.elsewhere.rules import NamedText, Refused, read
from tests.support.rows.imported_results import HERE, result

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
