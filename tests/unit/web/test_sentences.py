"""What is wrong with a number: a sentence on a page, a remedy for a program, whatever the bound."""

from typing import Any

import pytest
from pydantic import Field, ValidationError, create_model

from app.web.forms.sentences import sentences
from app.web.http.errors import field_errors


@pytest.mark.parametrize(
    ("bound", "sentence", "remedy"),
    [
        ({"gt": 7}, "Must be above 7", "above 7"),
        ({"ge": 8}, "Must be 8 or more", "at least 8"),
        ({"lt": 7}, "Must be below 7", "below 7"),
        ({"le": 6}, "Must be 6 or less", "at most 6"),
        ({"multiple_of": 2}, "Must be a multiple of 2", "a multiple of 2"),
    ],
)
def test_a_number_beyond_its_bound_says_what_it_must_be(bound: dict[str, Any], sentence: str, remedy: str) -> None:
    spec = create_model("Spec", r=(int, Field(**bound)))
    with pytest.raises(ValidationError) as wrong:
        spec(r=7)
    [page], [program] = sentences(wrong.value.errors()), field_errors(wrong.value.errors())
    assert (page.path, page.message, page.remedy) == ("r", sentence, "")
    assert (program.path, program.remedy) == ("r", remedy)
