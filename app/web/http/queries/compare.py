"""The query of a comparison of any runs, for its page and for the API."""

from typing import Annotated

from fastapi import Depends, Query
from pydantic import Field

from app.domain.errors import Invalid
from app.domain.messages import _
from app.domain.studies.alternative import Alternative
from app.services.comparison.compare import Selection
from app.store.database.page import LARGEST_ID
from app.web.numbers import NotANumber, parse_number

LARGEST_MARGIN = 100
"""Points."""
RowId = Annotated[int, Field(ge=1, le=LARGEST_ID)]


def _run_numbers(text: str) -> tuple[int, ...]:
    numbers = []
    for word in text.replace(",", " ").split():
        if not (word.isascii() and word.isdecimal()) or not 1 <= int(word[:12]) <= LARGEST_ID or len(word) > 12:
            raise Invalid.field(
                "runs", _("%(word)r is not the id of a run", word=word[:20]), _("Write ids such as 12,15")
            )
        numbers.append(int(word))
    return tuple(dict.fromkeys(numbers))


def _margin(text: str) -> float | None:
    if not text.strip():
        return None
    try:
        margin = parse_number(text)
    except NotANumber:
        margin = 0.0
    if not 0 < margin <= LARGEST_MARGIN:
        remedy = _("Write points above 0 and up to %(most)s, such as 1 or 2.5", most=LARGEST_MARGIN)
        raise Invalid.field("margin", _("%(text)r is not a margin", text=text[:20]), remedy)
    return margin


def _selection(
    runs: Annotated[list[str], Query(description="Ids of runs: `1,2,3`, or repeated.")] = [],  # noqa: B006
    study: Annotated[list[RowId], Query(description="Every run of a study that counts in its verdict.")] = [],  # noqa: B006
    collection: Annotated[RowId | None, Query(description="Every run of a collection.")] = None,
    reference: Annotated[
        RowId | None, Query(description="A run of the reference arm; default: the study's reference, or full.")
    ] = None,
    margin: Annotated[
        str, Query(description="In points, above 0 and up to 100; default: that of the runs' study, else 1.")
    ] = "",
    alternative: Annotated[
        Alternative | None, Query(description="What is tested; default: as the runs' study does, else non-inferiority.")
    ] = None,
) -> Selection:
    return Selection(_run_numbers(" ".join(runs)), tuple(study), collection, reference, _margin(margin), alternative)


SelectedRuns = Annotated[Selection, Depends(_selection)]
"""The runs that a query selects. Raises Invalid."""
