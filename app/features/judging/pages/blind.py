"""Blind comparison: two answers in random order, and the preference by all ratings so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from app.domain.accounts.policy import Identity
from app.domain.comparison.statistics.preference import BlindItem, Preference, Side, preferred_at, sides
from app.domain.errors import FieldError, Invalid
from app.features.judging.services import blind
from app.features.judging.services.blind import BlindPair
from app.features.judging.words import preference_difference
from app.store.database.page import LARGEST_ID
from app.store.studies import queries as studies
from app.store.tables import RunRow, StudyRow
from app.web.bars import MarginScale
from app.web.http.dependencies import Db, Reading, Store, User
from app.web.templating import Render
from app.words.i18n import gettext as _

router = APIRouter(prefix="/studies/{study_id:int}/blind", include_in_schema=False)
TEMPLATE = "judging/blind.html"
RunNumber = Annotated[int, Query(ge=1, le=LARGEST_ID)]


@dataclass(frozen=True)
class BlindPage:
    """An item to rate, and the preference so far."""

    study: StudyRow
    candidates: Sequence[RunRow]
    pair: BlindPair | None
    """None before two runs are chosen, or where they cannot be compared."""
    item: BlindItem | None
    """None once all are rated."""
    texts: tuple[str, str]
    """The answers of the item, left and right."""
    rated: int
    """By this person."""
    result: Preference | None
    errors: tuple[FieldError, ...] = ()

    @property
    def choices(self) -> list[tuple[str, str]]:
        return [(str(run.id), self.name(run)) for run in self.candidates]

    @property
    def chosen(self) -> tuple[str, str]:
        """Of the form: the runs that are compared, or two of different arms."""
        if self.pair:
            return str(self.pair.first.id), str(self.pair.second.id)
        first = self.candidates[0]
        other = next((run for run in self.candidates if run.arm != first.arm), self.candidates[-1])
        return str(first.id), str(other.id)

    def name(self, run: RunRow) -> str:
        """`LoRA r=8, seed 0 (run 12)`."""
        return _("%(arm)s, seed %(seed)s (run %(id)s)", arm=run.arm, seed=run.seed, id=run.id)

    @property
    def scale(self) -> MarginScale | None:
        """The preference in units of the margin."""
        if self.result is None or (interval := self.result.difference) is None:
            return None
        label = _("%(by)s points", by=preference_difference(self.result))
        return MarginScale.placed(interval.delta, interval.low, interval.high, self.result.margin, label)


@router.get("")
def show(
    session: Reading,
    files: Store,
    render: Render,
    user: User,
    study_id: int,
    first: RunNumber | None = None,
    second: RunNumber | None = None,
) -> HTMLResponse:
    """An item to rate; without runs, the form that chooses them."""
    if first is None or second is None:
        return render.page(TEMPLATE, _page(session, study_id))
    try:
        return render.page(
            TEMPLATE, _page(session, study_id, blind.pair(session, files, study_id, first, second), user)
        )
    except Invalid as error:
        return render.page(TEMPLATE, _page(session, study_id, errors=error.at("second")), status=422)


@router.post("")
def rate(
    db: Db,
    session: Reading,
    files: Store,
    user: User,
    study_id: int,
    first: Annotated[int, Form(ge=1, le=LARGEST_ID)],
    second: Annotated[int, Form(ge=1, le=LARGEST_ID)],
    item: Annotated[str, Form(max_length=500)],
    better: Annotated[Side, Form()],
) -> RedirectResponse:
    """Store a rating, and show the next item."""
    compared = blind.pair(session, files, study_id, first, second)
    preferred = preferred_at(better, compared.key, item, user.user_id)
    with db.transaction() as writing:
        blind.rate(writing, compared, item, preferred, user.user_id)
    return RedirectResponse(f"/studies/{study_id}/blind?{urlencode({'first': first, 'second': second})}#item", 303)


def _page(
    session: Session,
    study_id: int,
    pair: BlindPair | None = None,
    user: Identity | None = None,
    errors: tuple[FieldError, ...] = (),
) -> BlindPage:
    study, candidates = studies.get(session, study_id), blind.candidates(session, study_id)
    if pair is None or user is None:
        return BlindPage(study, candidates, None, None, ("", ""), rated=0, result=None, errors=errors)
    item, rated = blind.next_item(session, pair, user.user_id)
    texts = sides(item, pair.key, user.user_id) if item else ("", "")
    return BlindPage(study, candidates, pair, item, texts, rated, blind.result(session, pair))
