"""When a number of a run may be held against the same number of another."""

import pytest

from app.domain.comparison.baseline import in_the_way
from app.domain.comparison.confounders import Term, What
from app.domain.runs.fields import FIELDS

RUN: dict[Term, str] = {
    "metric": "accuracy",
    "dataset": "reviews",
    "dataset version": "1",
    "device": "x86",
    "precision": "fp32",
    "memory measure": "as here",
}


@pytest.mark.parametrize(
    ("field", "other", "what"),
    [
        ("score", {}, None),
        ("score", {"metric": "rouge_l"}, What.METRIC),
        ("accuracy", {"dataset": "MetaMathQA", "dataset version": ""}, What.DATASET),
        ("base_score", {"dataset": ""}, What.DATASET),
        ("validation_score", {"dataset version": "2"}, What.DATASET_VERSION),
        ("score", {"dataset version": ""}, None),
        ("score", {"device": "L4", "precision": "bf16"}, None),
        ("loss", {"dataset version": "2"}, What.DATASET_VERSION),
        ("peak", {"device": "L4"}, What.DEVICE),
        ("peak", {"device": ""}, What.DEVICE),
        ("peak", {"precision": "bf16"}, What.PRECISION),
        ("peak", {"memory measure": "reserved"}, What.MEMORY_MEASURE),
        ("train", {"memory measure": "reserved", "dataset": "other"}, None),
        ("train", {"precision": "bf16"}, What.PRECISION),
        ("speed", {"device": "L4", "precision": "bf16"}, What.DEVICE),
        ("trainable", {"device": "L4", "dataset": "other", "metric": "rouge_l"}, None),
    ],
)
def test_a_number_is_held_only_against_what_rests_on_the_same(
    field: str, other: dict[Term, str], what: What | None
) -> None:
    assert in_the_way(FIELDS[field], RUN, RUN | other) == what
    assert in_the_way(FIELDS[field], RUN | other, RUN) == what


def test_what_neither_tells_is_not_the_same() -> None:
    assert in_the_way(FIELDS["train"], {}, {}) == What.DEVICE
    assert in_the_way(FIELDS["score"], {"metric": "accuracy"}, {"metric": "accuracy"}) == What.DATASET
