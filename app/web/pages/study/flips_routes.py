"""A study's flips: its test items by which arms answer them correctly, with the answers."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from app.domain.comparison.flips import FlipKind, Flips
from app.domain.errors import Invalid
from app.services.comparison import flips as flip_service
from app.services.comparison.flips import Slice
from app.services.studies import studies as study_service
from app.store.database.page import LARGEST_ID
from app.web.http.dependencies import Reading, Store
from app.web.pages.study.flips import FlipQuery, FlipsPage
from app.web.templating import Render

router = APIRouter(include_in_schema=False)

PAGE = 20
QUARTERS = ("1", "2", "3", "4")
"""Quarters of the items by length; bands of confidence have the same numbers."""

Word = Annotated[str, Query(max_length=200)]


@router.get("/studies/{study_id:int}/flips")
def show(
    session: Reading,
    files: Store,
    render: Render,
    study_id: int,
    arm: Word = "",
    kind: Word = "",
    seed: Word = "",
    label: Word = "",
    length: Word = "",
    sure: Word = "",
    q: Word = "",
    after: Word = "",
) -> HTMLResponse:
    """Items of a kind. Unknown values are ignored, so that an old link still shows items."""
    comparison = study_service.comparison(session, study_id)
    seed = seed if seed in map(str, comparison.spec.seeds) else ""
    flips = Flips.of(comparison, int(seed) if seed else None)
    default_arm, default_kind = flips.default(comparison.focus)
    query = FlipQuery(
        study_id=study_id,
        arm=arm if arm in flips.arms else default_arm,
        kind=FlipKind(kind) if kind in set(FlipKind) else default_kind,
        seed=seed,
        label=label,
        length=length if length in QUARTERS else "",
        sure=sure if sure in QUARTERS else "",
        q=q.strip(),
    )
    where = Slice(
        kind=query.kind,
        arm=query.arm,
        label=query.label,
        quarter=int(query.length) - 1 if query.length else None,
        band=int(query.sure) - 1 if query.sure else None,
        text=query.q,
    )
    behind = int(after) if after.isdecimal() and int(after) <= LARGEST_ID else -1
    try:
        items = flip_service.browse(session, files, flips, where, after=behind, limit=PAGE)
    except Invalid:  # unknown label
        query, where = replace(query, label=""), replace(where, label="")
        items = flip_service.browse(session, files, flips, where, after=behind, limit=PAGE)
    return render.page("flips/show.html", FlipsPage(comparison, flips, query, items, first=behind < 0))
