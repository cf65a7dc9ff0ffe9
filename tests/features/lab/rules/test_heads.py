"""What an attention head does: its habit, how far a run moved it, and which heads stand out."""

import numpy as np
import pytest
from numpy.typing import NDArray

from app.features.lab.computations import Attention, packed
from app.features.lab.rules.heads import Heads, Kind, habit, moved

EVEN = np.full((4, 4), 0.25)
PREVIOUS = np.array([[1, 0, 0, 0], [0.9, 0.1, 0, 0], [0, 0.9, 0.1, 0], [0, 0, 0.9, 0.1]])
SINK = np.array([[0.1, 0.1, 0.8, 0]] * 4)


@pytest.mark.parametrize(
    ("weights", "kind", "token", "share"),
    [
        (PREVIOUS, "previous", 0, 0.9),
        (PREVIOUS[::-1, ::-1], "next", 0, 0.9),
        (np.eye(4), "itself", 0, 1),
        (SINK, "token", 2, 0.8),
        (np.ones((1, 1)), "itself", 0, 1),
    ],
)
def test_a_head_is_named_by_where_it_looks_most(
    weights: NDArray[np.float64], kind: Kind, token: int, share: float
) -> None:
    found = habit(weights)
    assert (found.kind, found.token) == (kind, token)
    assert found.share == pytest.approx(share)


def test_what_a_run_moved_is_the_share_that_went_elsewhere() -> None:
    assert moved(EVEN, EVEN) == 0
    assert moved(np.eye(4), np.eye(4)[::-1]) == 1
    assert moved(EVEN, np.eye(4)) == pytest.approx(0.75)


def answer(before: list[NDArray[np.float64]], after: list[NDArray[np.float64]] | None = None) -> Heads:
    """One layer with these heads."""
    layers = [[packed(head.astype(np.float32)) for head in heads] for heads in (before, after or [])]
    tokens = [str(place) for place in range(len(before[0]))]
    return Heads(Attention(tokens=tokens, cut=False, before=[layers[0]], after=[layers[1]] if after else []))


def test_heads_that_stand_out_are_found() -> None:
    heads = answer([EVEN, SINK, PREVIOUS])
    assert (heads.layers, heads.heads, heads.clearest, heads.most_moved) == (1, 3, (0, 2), None)
    assert heads.moved(0, 1) == 0
    trained = answer([EVEN, SINK, PREVIOUS], [EVEN, EVEN, PREVIOUS])
    assert trained.most_moved == (0, 1)
    assert trained.moved(0, 1) == pytest.approx(0.55, abs=1e-4)


def test_a_decoder_never_looks_ahead() -> None:
    assert answer([PREVIOUS, np.tril(EVEN)]).causal
    assert not answer([PREVIOUS, EVEN]).causal
    assert not answer([np.ones((1, 1))]).causal


def test_weights_are_packed_without_a_visible_loss() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(24), 24)
    assert np.abs(answer([weights]).answer.weights(0, 0) - weights).max() < 1e-5
