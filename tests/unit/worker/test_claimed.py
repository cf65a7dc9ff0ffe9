"""Claimed work that takes longer than a heartbeat."""

from concurrent.futures import Future

import pytest

from worker import claimed
from worker.children.work import WorkCancelled


class LateFuture(Future[int]):
    """Work that ends just after a wait for it has timed out."""

    def result(self, timeout: float | None = None) -> int:
        done = super().result()
        if timeout is not None:
            raise TimeoutError
        return done


def test_work_that_ends_at_the_end_of_a_wait_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimed, "Future", LateFuture)
    assert claimed.while_reporting(lambda: 7, lambda share: True, 0.5) == 7


def test_its_own_error_is_raised() -> None:
    def late() -> None:
        raise TimeoutError("the store is slow")

    with pytest.raises(TimeoutError, match="the store is slow"):
        claimed.while_reporting(late, lambda share: True, 0.5)


def test_a_claim_that_is_no_longer_valid_stops_it() -> None:
    with pytest.raises(WorkCancelled):
        claimed.while_reporting(lambda: 7, lambda share: share < 0.5, 0.5)
