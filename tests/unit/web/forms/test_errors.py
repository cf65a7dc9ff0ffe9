"""What is wrong with a number, whatever the bound: the same sentence on a page and for a program."""

from typing import Any

import pytest
from pydantic import Field, ValidationError, create_model

from app.web.forms.errors import sentences
from app.web.http.errors import field_errors


@pytest.mark.parametrize(
    ("bound", "sentence"),
    [
        ({"gt": 7}, "Must be above 7"),
        ({"ge": 8}, "Must be 8 or more"),
        ({"lt": 7}, "Must be below 7"),
        ({"le": 6}, "Must be 6 or less"),
        ({"multiple_of": 2}, "Must be a multiple of 2"),
    ],
)
def test_a_number_beyond_its_bound_says_what_it_must_be(bound: dict[str, Any], sentence: str) -> None:
    spec = create_model("Spec", r=(int, Field(**bound)))
    with pytest.raises(ValidationError) as wrong:
        spec(r=7)
    [page], [program] = sentences(wrong.value.errors()), field_errors(wrong.value.errors())
    assert page == program
    assert (page.path, page.message, page.remedy) == ("r", sentence, "")
