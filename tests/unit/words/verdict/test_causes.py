"""The button that prepares a study with more steps, where arms set or search them."""

from typing import Any

import pytest

from app.domain.comparison.learning.causes import Cause, CauseKind
from app.domain.comparison.study import compare
from app.domain.studies.spec import StudySpec
from app.words.verdict.causes import remedy_label


@pytest.mark.parametrize(
    ("arm", "training", "label"),
    [
        ({}, {"num_train_epochs": 2}, "Train for 8 epochs"),
        ({}, {"max_steps": 30}, "Train for 120 steps"),
        ({"num_train_epochs": 5}, {"max_steps": 30}, "Train for 20 epochs"),
        ({"search": {"num_train_epochs": [1, 2]}}, {"max_steps": 30}, "Search 4 times as many epochs"),
        ({"search": {"max_steps": [10, 20]}}, {}, "Search 4 times as many steps"),
        ({"search": {"learning_rate": [1e-4, 1e-3]}}, {"max_steps": 30}, "Train for 120 steps"),
    ],
)
def test_more_steps_are_those_of_the_reference(arm: dict[str, Any], training: dict[str, Any], label: str) -> None:
    tuning = {"kind": "grid", "rates": 2} if "search" in arm else "none"
    body = {"name": "s", "base_model": "m", "dataset": "d", "training": training, "tuning": tuning}
    spec = StudySpec.model_validate(body | {"arms": [{"method": {"kind": "full"}} | arm]})
    assert remedy_label(Cause(CauseKind.STEPS, likely=True), compare(spec, [])) == label
