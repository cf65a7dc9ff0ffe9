"""Drift of published results between versions of the libraries."""

from datetime import date

import pytest

from app.features.recipes.rules.drift import (
    PublishedHistory,
    PublishedResult,
    PublishedSnapshot,
    difference_half_width,
    drifts,
    newest,
    score_half_width,
)
from app.features.recipes.service import published

OLD, NEW = {"torch": "2.9"}, {"torch": "2.13"}


def snapshot(day: int, versions: dict[str, str], **right: int) -> PublishedSnapshot:
    results = [
        PublishedResult(label=label, right=count, trained=date(2026, 1, day), versions=versions)
        for label, count in right.items()
    ]
    return PublishedSnapshot(commit=f"c{day}", committed=date(2026, 1, day), results=results)


def history(*snapshots: PublishedSnapshot) -> PublishedHistory:
    return PublishedHistory(title="t", url="u", license="l", setting="s", items=1000, seed=0, snapshots=list(snapshots))


def test_drift_is_the_mean_change_and_the_spread_is_what_remains() -> None:
    [drift] = drifts(history(snapshot(1, OLD, a=500, b=400, c=300), snapshot(2, NEW, a=480, b=390, c=300)))
    assert drift.changes == pytest.approx({"a": -2, "b": -1, "c": 0})
    assert (drift.mean, drift.spread, drift.fell) == pytest.approx((-1, 1, 2))
    assert (drift.before, drift.after) == (OLD, NEW)


def test_a_result_that_was_only_kept_is_not_trained_again() -> None:
    first = snapshot(1, OLD, a=500, b=400)
    assert drifts(history(first, first)) == []


def test_results_of_other_versions_are_another_drift() -> None:
    middle = {"torch": "2.12"}
    late = snapshot(2, middle, c=500, d=500)
    found = drifts(history(snapshot(1, OLD, a=500, b=400), late, snapshot(3, NEW, a=480, b=380, c=510, d=510)))
    assert [(drift.before, round(drift.mean, 6)) for drift in found] == [(OLD, -2), (middle, 1)]


def test_the_published_history_has_the_figures_that_the_recipe_reports() -> None:
    peft = published("peft-method-comparison")
    assert (peft.items, peft.seed, len(peft.snapshots)) == (1319, 0, 5)
    found = {(d.before["transformers"], d.after["transformers"]): d for d in drifts(peft)}
    repeated, early, main, late = (
        found["4.52.4", "4.52.4"], found["4.52.4", "4.57.1"], found["4.57.1", "5.13.1"], found["5.5.4", "5.13.1"],
    )  # fmt: skip
    assert [len(drift.changes) for drift in (repeated, early, main, late)] == [9, 10, 11, 5]
    assert [round(drift.mean, 1) for drift in (repeated, early, main, late)] == [-0.0, 0.2, -1.8, 0.3]
    assert [round(drift.spread, 1) for drift in (repeated, early, main, late)] == [0.2, 0.7, 0.9, 1.7]
    assert (main.fell, late.fell) == (11, 1), "not every configuration fell: those first run in April mostly rose"


def test_what_items_alone_can_do() -> None:
    peft = published("peft-method-comparison")
    lily, rslora = newest(peft, ["lily rank140-mlp-a2-b2-s8.0", "lora rank64-rslora"])
    assert score_half_width(lily.right, peft.items) == pytest.approx(2.7, abs=0.05)
    assert difference_half_width(lily.right, rslora.right, peft.items) == pytest.approx(3.8, abs=0.05)
    assert 100 * (lily.right - rslora.right) / peft.items == pytest.approx(1.3, abs=0.05)
