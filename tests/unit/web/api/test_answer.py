"""Answers that show an object."""

from dataclasses import dataclass

import pytest

from app.web.api.answer import Answer


@dataclass(frozen=True)
class Run:
    """An object of the domain."""

    seed: int
    rate: float

    @property
    def title(self) -> str:
        """A derived value."""
        return f"seed {self.seed}"


class RunOut(Answer):
    """An answer that renames one field and adds another."""

    seed: int
    title: str
    learning_rate: float
    tags: list[str]


def test_an_answer_has_attributes_and_properties_of_its_object_and_what_is_derived() -> None:
    answer = RunOut.from_object(Run(3, 0.1), learning_rate=0.1, tags=["paper"])
    assert answer.model_dump() == {"seed": 3, "title": "seed 3", "learning_rate": 0.1, "tags": ["paper"]}


def test_a_field_that_is_neither_an_attribute_nor_derived_is_an_error() -> None:
    with pytest.raises(AttributeError, match="tags"):
        RunOut.from_object(Run(3, 0.1), learning_rate=0.1)
