"""Blind comparison of two runs' answers over REST."""

from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from app.domain.comparison.statistics.preference import Side, preferred_at, sides
from app.domain.comparison.statistics.verdict import VerdictKind
from app.features.judging.services import blind
from app.features.judging.services.blind import BlindPair
from app.store.database.page import LARGEST_ID
from app.web.api.answer import Answer
from app.web.api.examples import RATING
from app.web.http.dependencies import Db, Reading, RowId, Store, User
from app.web.http.errors import problems

router = APIRouter(prefix="/studies/{study_id}/blind", tags=["studies"])

RunNumber = Annotated[int, Field(ge=1, le=LARGEST_ID)]
Run = Annotated[RunNumber, Query(description="A run of the study with generated answers.")]
Other = Annotated[RunNumber, Query(description="The run that it is compared with.")]


class BlindRunOut(Answer):
    """A run of a study whose answers can be compared."""

    id: int
    arm: str
    seed: int


class UnratedItem(BaseModel):
    """An item with two answers; nothing says which run wrote which."""

    item: str
    prompt: str
    left: str
    right: str


class NextItem(BaseModel):
    """The next item to rate."""

    next: UnratedItem | None
    """Null once you have rated all."""
    rated: int
    """Items that you have rated."""
    differing: int
    """Items whose two answers differ: those that can be rated."""
    items: int


class NewRating(BaseModel):
    """Which answer to an item is better."""

    model_config = ConfigDict(extra="forbid")

    first: RunNumber
    second: RunNumber
    """The two runs, in either order."""
    item: Annotated[str, Field(max_length=500)]
    better: Side
    """`left` or `right`, as the item was shown to you, or `tie`."""


class PreferenceOut(BaseModel):
    """The preference by all ratings so far, of the run with the lower id over the other."""

    first: int
    """The run with the lower id."""
    second: int
    items: int
    """Items that count: rated, or answered alike among these."""
    rated: int
    ratings: int
    first_preferred: int
    """Ratings that prefer the first run's answer."""
    second_preferred: int
    ties: int
    delta: float | None
    """Mean over the items: 1 where the first run's answer is preferred, −1 where the second's, 0 for ties. Null, as its
    interval, before two items count."""
    low: float | None
    """Of the paired 95 % interval, within −1 and 1."""
    high: float | None
    margin: float
    """Of the study: 0.02 is 2 points."""
    verdict: VerdictKind
    """`better`: the first run is preferred; `worse`: the second; `within` the margin; `undecided`; `none` without an
    interval."""


@router.get("/runs", operation_id="listBlindRuns", responses=problems(404))
def listing(session: Reading, study_id: RowId) -> list[BlindRunOut]:
    """The runs of a study whose answers can be compared: those that succeeded and generate text."""
    return [BlindRunOut.from_object(run) for run in blind.candidates(session, study_id)]


@router.get("/next", operation_id="getBlindItem", responses=problems(404, 422))
def next_item(session: Reading, files: Store, user: User, study_id: RowId, first: Run, second: Other) -> NextItem:
    """The next item that you have to rate, with the two answers in random order."""
    return _next(session, blind.pair(session, files, study_id, first, second), user.user_id)


@router.post("/ratings", operation_id="rateBlindItem", responses=problems(404, 422))
def rate(
    db: Db,
    session: Reading,
    files: Store,
    user: User,
    study_id: RowId,
    rating: Annotated[NewRating, Body(openapi_examples=RATING)],
) -> NextItem:
    """Store a rating, which replaces your earlier one of this item, and get the next item. 404 for an item without two
    different answers."""
    compared = blind.pair(session, files, study_id, rating.first, rating.second)
    preferred = preferred_at(rating.better, compared.key, rating.item, user.user_id)
    with db.transaction() as writing:
        blind.rate(writing, compared, rating.item, preferred, user.user_id)
        return _next(writing, compared, user.user_id)


@router.get("/preference", operation_id="getBlindPreference", responses=problems(404, 422))
def preference(session: Reading, files: Store, study_id: RowId, first: Run, second: Other) -> PreferenceOut:
    """The preference by the ratings of all people so far, with its interval and the study's margin."""
    compared = blind.pair(session, files, study_id, first, second)
    result = blind.result(session, compared)
    interval = result.difference
    return PreferenceOut(
        first=compared.first.id,
        second=compared.second.id,
        items=result.items,
        rated=result.rated,
        ratings=result.ratings,
        first_preferred=result.first,
        second_preferred=result.second,
        ties=result.ratings - result.first - result.second,
        delta=interval.delta if interval else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        margin=result.margin,
        verdict=result.verdict,
    )


def _next(session: Session, compared: BlindPair, user_id: int | None) -> NextItem:
    item, rated = blind.next_item(session, compared, user_id)
    shown = None
    if item:
        left, right = sides(item, compared.key, user_id)
        shown = UnratedItem(item=item.item, prompt=item.prompt, left=left, right=right)
    return NextItem(next=shown, rated=rated, differing=compared.differing, items=len(compared.items))
