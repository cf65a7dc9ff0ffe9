"""The shipping gate in words."""

from app.domain.comparison.fairness.export_gate import ExportScores, WeightCheck, gate
from app.features.shipping.words.exports import gate_unseen


def test_weights_that_cannot_show_the_adapter_are_named() -> None:
    def words(unseen: int) -> str:
        weights = WeightCheck(tensors=9, wrong=[], largest_error=0.5, unseen=unseen)
        scores = ExportScores(
            loaded_with="", metric="accuracy", items_hash="", scores=[1.0], same=1, weights=weights, seconds=1.0
        )
        return gate_unseen(gate([1.0], scores, margin=1.0))

    assert words(0) == ""
    assert words(7) == "the weights cannot show whether the adapter is in 7 tensors; the scores decide"
