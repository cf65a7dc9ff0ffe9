"""What a default score is: how a kind of trainer scores the items of a test set, and why it may not."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class NoScores(ValueError):
    """Why test items have no score, and what to do."""


@contextmanager
def or_no_scores() -> Iterator[None]:
    """Raise NoScores for whatever another version of a library raises."""
    try:
        yield
    except NoScores:
        raise
    except Exception as error:
        raise NoScores(
            f"the test items cannot be scored by default ({type(error).__name__}: {error}). Give item_scores=…, a "
            "function of the trainer that scores each item"
        ) from error


@dataclass(frozen=True)
class DefaultScore:
    """How a kind of trainer scores the items of a test set."""

    metric: str
    """The `eval_…` that is reported for validation."""
    version: Callable[[Any], str]
    """What computes a trainer's score, with the settings that decide which tokens count."""
    items: Callable[[Any, Sequence[str] | None], Any]
    """The items of a test set's rows and the columns that count. Raises NoScores."""
    scores: Callable[[Any, Any], list[float]]
    """A trainer's scores of the items, from 0 to 1, in their order. Raises NoScores."""


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """With the model in evaluation mode, and then in the mode that it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
