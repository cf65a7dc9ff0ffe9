"""The shipping gate: pass, fail and undecided follow from the paired interval and the weights alone."""

import numpy as np
import pytest

from app.domain.comparison.fairness.export_gate import ExportGate, ExportScores, GateOutcome, WeightCheck, gate

ITEMS = 400
RUN = np.array([1.0] * 360 + [0.0] * 40)


def scores(values: np.ndarray, weights: WeightCheck | None = None) -> ExportScores:
    """What was measured of an export."""
    return ExportScores(
        loaded_with="transformers 5",
        metric="accuracy",
        items_hash="x",
        scores=values.tolist(),
        same=int((values == RUN[: len(values)]).sum()),
        weights=weights,
        seconds=1.0,
    )


def losing(items: int) -> np.ndarray:
    """The run's scores with so many right answers lost."""
    lost = RUN.copy()
    lost[:items] = 0.0
    return lost


@pytest.mark.parametrize(
    ("lost", "outcome"),
    [(0, GateOutcome.PASS), (2, GateOutcome.PASS), (8, GateOutcome.UNDECIDED), (60, GateOutcome.FAIL)],
)
def test_the_interval_and_the_margin_imply_the_outcome(lost: int, outcome: GateOutcome) -> None:
    result = gate(RUN.tolist(), scores(losing(lost)), margin=0.02)
    assert result.outcome is outcome
    assert result.delta == pytest.approx(-lost / ITEMS)
    assert result.low < result.delta < result.high
    assert (result.score, result.run_score) == pytest.approx((0.9 - lost / ITEMS, 0.9))
    assert result.same == ITEMS - lost
    assert {"pass": result.low >= -0.02, "fail": result.high < -0.02}.get(outcome, True)


def test_an_export_that_scores_better_passes() -> None:
    better = RUN.copy()
    better[-30:] = 1.0
    result = gate(RUN.tolist(), scores(better), margin=0.02)
    assert result.outcome is GateOutcome.PASS and result.low > 0


def test_errors_that_cancel_out_widen_the_interval() -> None:
    swapped = RUN.copy()
    swapped[:40], swapped[-40:] = 0.0, 1.0
    result = gate(RUN.tolist(), scores(swapped), margin=0.02)
    assert (result.delta, result.outcome) == (0.0, GateOutcome.UNDECIDED)


def test_a_wrong_tensor_fails_whatever_the_scores() -> None:
    wrong = WeightCheck(tensors=9, wrong=["layer.weight"], largest_error=3.0)
    assert gate(RUN.tolist(), scores(RUN, wrong), margin=0.02).outcome is GateOutcome.FAIL
    right = WeightCheck(tensors=9, wrong=[], largest_error=1.0)
    assert gate(RUN.tolist(), scores(RUN, right), margin=0.02).outcome is GateOutcome.PASS


@pytest.mark.parametrize("items", [3, 50])
def test_the_rounding_of_stored_scores_is_no_difference(items: int) -> None:
    exact = np.arange(1, items + 1) / 3 % 1
    stored = exact.astype("<f4").astype(np.float64)
    assert (stored != exact).any()
    result, same = (gate(run.tolist(), scores(exact), margin=0.01) for run in (stored, exact))
    assert (result.delta, result.low, result.high) == (0.0, same.low, same.high)
    assert result.score == result.run_score
    assert result.outcome is same.outcome is GateOutcome.UNDECIDED, "so few items cannot show a loss of one point"


def test_one_item_decides_nothing_and_other_items_are_an_error() -> None:
    one = gate([1.0], scores(RUN[:1]), margin=0.02)
    assert (one.outcome, one.low, one.high) == (GateOutcome.UNDECIDED, -1.0, 1.0)
    with pytest.raises(ValueError, match="same items"):
        gate(RUN.tolist(), scores(RUN[:7]), margin=0.02)


def test_a_result_has_the_versions_and_the_code_it_was_measured_with() -> None:
    versions = {"torch": "2.13.0", "vezna": "0.1.0"}
    measured = scores(RUN).model_copy(update={"versions": versions, "code": "c0de"})
    result = gate(RUN.tolist(), measured, margin=0.02)
    assert (result.versions, result.code) == (versions, "c0de")
    before = {key: value for key, value in result.model_dump().items() if key not in ("versions", "code")}
    stored = ExportGate.model_validate(before)
    assert (stored.versions, stored.code) == ({}, ""), "what was stored without them still loads"
