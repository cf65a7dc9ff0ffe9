"""Metrics in words: what test items are called."""

import pytest

from app.words.runs.metrics import counted_items, loss_unit
from tests.support.rows.factories import plain


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("accuracy", "1,646 test items"),
        ("preference_accuracy", "1,646 test pairs"),
        ("mrr_at_10", "1,646 test queries"),
        ("of an imported run", "1,646 test items"),
    ],
)
def test_test_items_are_called_by_what_has_a_value_of_the_metric(metric: str, words: str) -> None:
    assert plain(counted_items(1646, metric)) == words


def test_the_loss_of_preferences_is_per_pair() -> None:
    assert (loss_unit("preference"), loss_unit("sequence-classification")) == ("nats per pair", "nats per item")
