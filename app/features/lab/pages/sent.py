"""What learners send: answers to questions."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Query

from app.features.lab.services import learner as lab
from app.web.forms.sent import MAX_TEXT
from app.web.http.dependencies import RowId
from app.web.numbers import parse_number

Answered = Annotated[RowId | None, Query()]
"""The answer whose result is shown."""


def read_answer(question_id: str, form: Mapping[str, str]) -> tuple[list[str], float | None]:
    """What was chosen, ordered or typed, and the number that a question for one was answered with. Raises NotFound,
    and NotANumber."""
    given, typed = chosen_places(form), form.get("answer", "").strip()[:MAX_TEXT]
    number = parse_number(typed) if typed and lab.question(question_id).kind == "number" else None
    return given or [typed], number


def chosen_places(form: Mapping[str, str]) -> list[str]:
    """Places of the choices that were ticked, or the ranks of the items by their place."""
    if "choice" in form:
        return [form["choice"]]
    ticked = [name.removeprefix("choice-") for name in form if name.startswith("choice-")]
    ranks = {name.removeprefix("rank-"): value for name, value in form.items() if name.startswith("rank-")}
    return ticked or [ranks[place] for place in sorted(ranks, key=lambda place: (len(place), place))]
