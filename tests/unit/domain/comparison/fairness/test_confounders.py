"""When a number of a run may be held against the same number of another."""

import pytest

from app.domain.comparison.fairness.confounders import ConditionName, ConfounderKind, field_confounder
from app.domain.runs.listing.fields import FIELDS

RUN: dict[ConditionName, str] = {
    "metric": "accuracy",
    "dataset": "reviews",
    "dataset_version": "1",
    "device": "x86",
    "precision": "fp32",
    "memory_measure": "as here",
}


@pytest.mark.parametrize(
    ("field", "other", "what"),
    [
        ("score", {}, None),
        ("score", {"metric": "rouge_l"}, ConfounderKind.METRIC),
        ("accuracy", {"dataset": "MetaMathQA", "dataset_version": ""}, ConfounderKind.DATASET),
        ("base_score", {"dataset": ""}, ConfounderKind.DATASET),
        ("validation_score", {"dataset_version": "2"}, ConfounderKind.DATASET_VERSION),
        ("score", {"dataset_version": ""}, None),
        ("score", {"device": "L4", "precision": "bf16"}, None),
        ("loss", {"dataset_version": "2"}, ConfounderKind.DATASET_VERSION),
        ("peak", {"device": "L4"}, ConfounderKind.DEVICE),
        ("peak", {"device": ""}, ConfounderKind.DEVICE),
        ("peak", {"precision": "bf16"}, ConfounderKind.PRECISION),
        ("peak", {"memory_measure": "reserved"}, ConfounderKind.MEMORY_MEASURE),
        ("train", {"memory_measure": "reserved", "dataset": "other"}, None),
        ("train", {"precision": "bf16"}, ConfounderKind.PRECISION),
        ("speed", {"device": "L4", "precision": "bf16"}, ConfounderKind.DEVICE),
        ("trainable", {"device": "L4", "dataset": "other", "metric": "rouge_l"}, None),
    ],
)
def test_a_number_is_held_only_against_what_rests_on_the_same(
    field: str, other: dict[ConditionName, str], what: ConfounderKind | None
) -> None:
    assert field_confounder(FIELDS[field], RUN, RUN | other) == what
    assert field_confounder(FIELDS[field], RUN | other, RUN) == what


def test_what_neither_tells_is_not_the_same() -> None:
    assert field_confounder(FIELDS["train"], {}, {}) == ConfounderKind.DEVICE
    assert field_confounder(FIELDS["score"], {"metric": "accuracy"}, {"metric": "accuracy"}) == ConfounderKind.DATASET
