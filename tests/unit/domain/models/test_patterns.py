"""Patterns for module names: whole names, in linear time, and a reason for what cannot be read."""

import pytest

from app.domain.methods import LoraSpec
from app.domain.methods.targets import checked_targets, chosen
from app.domain.models.architecture import LinearFacts
from app.domain.models.patterns import matcher

NAME = "bert.encoder.layer.{}.attention.self.query"
LAYERS = [LinearFacts(name=NAME.format(i), in_features=8, out_features=8) for i in range(48)]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("pattern", [".*" * 9 + "!", r"(?:a|b|c|.|\w)*!", "(a+)+b", "(.*)*(.*)*!", r"(\w?){99}!"])
def test_no_pattern_takes_longer_than_names_are_long(pattern: str) -> None:
    """Python's `re` needs 7 s a name for the first one, and outlives whoever waits for the second."""
    assert chosen(LoraSpec(target_modules=pattern).target_modules or [], LAYERS) == []


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (r".*layer\.(4|5)\..*query", [4, 5]),
        (r".*\.1\d\..*", [*range(10, 20)]),
        (r"bert(\.\w+)*\.7\.attention\.self\.query", [7]),
        (r"(?i).*LAYER\.[0-2]\..*QUERY$", [0, 1, 2]),
        (r"^(?:.*layer\.(?P<number>3)\..+)$", [3]),
        (r".*query|nothing", [*range(48)]),
    ],
)
def test_ordinary_patterns_match_whole_names_as_in_peft(pattern: str, found: list[int]) -> None:
    assert [m.name for m in chosen(LoraSpec(target_modules=pattern).target_modules or [], LAYERS)] == [
        NAME.format(i) for i in found
    ]


@pytest.mark.parametrize("pattern", ["query", "bert", r".*self", "quer", "b|query"])
def test_a_part_of_a_name_is_not_enough(pattern: str) -> None:
    assert chosen(pattern, LAYERS) == []


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a)|(b", "unopened group"),
        ("(query", "unclosed group"),
        ("[a", "unclosed character class"),
        (r"(a)\1", "backreferences are not supported"),
        ("(?!key).*", "look-around, including look-ahead and look-behind, is not supported"),
        (r"(\w{1000}){1000}", "its repeats make it too large"),
        ("(?x)a #", "unclosed group"),
    ],
)
def test_what_cannot_be_read_has_a_reason_and_a_remedy(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        matcher(pattern)
    with pytest.raises(ValueError, match="is not valid") as refused:
        checked_targets(pattern)
    assert reason in str(refused.value)


def test_a_pattern_has_a_length() -> None:
    with pytest.raises(ValueError, match="has 201 characters"):
        checked_targets("a" * 201)
