"""How common labels and tags are: rows are counted of the one, words of the other."""

from app.domain.data.dataset import DatasetFacts
from app.web.figures.drawing.labels import labels
from tests.support.rows.factories import plain

COUNTS = {"train": 8, "validation": 1, "test": 1}


def test_of_tagged_rows_words_are_counted() -> None:
    facts = DatasetFacts.model_validate(
        {"format": "tagged", "labels": ["B-PER", "O"], "counts": COUNTS, "label_counts": {"B-PER": 10, "O": 90}}
        | {"content_hash": "h"}
    )
    figure = labels(facts)
    assert plain(figure.title) == "O is the most common tag with 90 % of the words, B-PER the rarest with 10 %"
    assert plain(figure.note) == "2 tags, 100 words."
    assert [column.name for column in figure.table.columns] == ["tag", "words", "share"]


def test_of_labelled_rows_rows_are_counted() -> None:
    facts = DatasetFacts.model_validate(
        {"labels": ["a", "b"], "counts": COUNTS, "label_counts": {"a": 9, "b": 1}, "content_hash": "h"}
    )
    figure = labels(facts)
    assert plain(figure.title) == "a is the most common label with 90 % of the rows, b the rarest with 10 %"
    assert plain(figure.note) == "2 labels, 10 rows."
