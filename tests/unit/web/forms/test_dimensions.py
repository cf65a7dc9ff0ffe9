"""A search space as it is typed, in every language, and as its page shows it."""

from typing import Any

import pytest

from app.domain.studies.tuning.search_space import DimensionSpec, SearchSpace
from app.web.forms.fields import Field
from app.words import i18n
from app.words.studies.tuning import space_text

DIMENSION = Field("learning_rate", "dimension", optional=True)
SPACE = {
    "learning_rate": DimensionSpec(values=(0.001, 0.5)),
    "r": DimensionSpec(values=(4, 8, 16)),
    "weight_decay": DimensionSpec(low=1e-4, high=0.01, log=True),
    "num_train_epochs": DimensionSpec(low=1, high=10),
}


@pytest.fixture
def bulgarian() -> Any:
    i18n.speak("bg")
    yield
    i18n.speak(i18n.DEFAULT)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("4, 8, 16", ["4", "8", "16"]),
        ("4,8,16", ["4", "8", "16"]),
        ("4,8", ["4", "8"]),
        ("0,5", ["0.5"]),
        ("0,001; 0,002", ["0.001", "0.002"]),
        ("0,01 0,02", ["0.01", "0.02"]),
        ("1e-4,1e-3", ["1e-4", "1e-3"]),
        ("0.1,0.2", ["0.1", "0.2"]),
        ("1e-4 to 0,01 log", {"low": "1e-4", "high": "0.01", "log": True}),
        ("от 1e-4 до 0,01, логаритмично", {"low": "1e-4", "high": "0.01", "log": True}),
        ("от 1 до 10, линейно", {"low": "1", "high": "10", "log": False}),
    ],
)
def test_values_and_ranges_are_read(typed: str, read: object) -> None:
    assert DIMENSION.read(typed) == read


@pytest.mark.usefixtures("bulgarian")
def test_a_comma_between_digits_is_the_decimal_sign_where_the_language_has_it() -> None:
    assert DIMENSION.read("2,5") == ["2.5"]
    assert DIMENSION.read("4,8,16") == ["4", "8", "16"]


@pytest.mark.usefixtures("bulgarian")
@pytest.mark.parametrize("name", SPACE)
def test_what_a_page_shows_can_be_typed_again(name: Any) -> None:
    shown = space_text(SearchSpace.model_validate({name: SPACE[name]}))
    label_and_values = shown.split(" ")
    starts = next(place for place, word in enumerate(label_and_values) if word[0].isdigit() or word == "от")
    found = DIMENSION.read(" ".join(label_and_values[starts:]))
    assert getattr(SearchSpace.model_validate({name: found}), name) == SPACE[name]
