"""Confusion matrices: counted once, and read from both sides."""

from app.domain.runs.confusion import Answers, Confusion


def test_pairs_are_counted() -> None:
    confusion = Confusion.of([0, 0, 0, 1, 2], [0, 1, 1, 1, 0])
    assert confusion.answers == [Answers(0, 0, 1), Answers(0, 1, 2), Answers(1, 1, 1), Answers(2, 0, 1)]
    assert confusion.items == 5
    assert confusion.labels == {0: 3, 1: 1, 2: 1}
    assert confusion.predictions == {0: 2, 1: 3}
    assert confusion.errors == [Answers(0, 1, 2), Answers(2, 0, 1)]
    assert confusion.most_predicted == (1, 0.6)


def test_it_survives_json() -> None:
    confusion = Confusion.of([0, 1], [1, 1])
    assert Confusion.model_validate_json(confusion.model_dump_json()) == confusion
