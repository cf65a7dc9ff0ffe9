"""A study's flips as JSON: its test items by which arms answer them correctly, with the answers."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from app.domain.comparison.flips import FlipKind, Flips
from app.domain.comparison.study import StudyComparison
from app.domain.errors import Invalid
from app.domain.messages import _, choose_from
from app.domain.tasks import MetricName
from app.services.comparison import flips as flip_service
from app.services.comparison.flips import FlipItem, Slice, UnreadRun
from app.services.studies import studies as study_service
from app.store.database.page import LARGEST_ID
from app.web.api.answer import Answer
from app.web.api.runs.listing import Limit
from app.web.http.dependencies import Reading, Store
from app.web.http.errors import problems
from app.words.verdict.flips import rule

router = APIRouter(prefix="/studies", tags=["studies"])

Quarter = Annotated[
    int | None, Query(ge=1, le=4, description="By length in characters: 1 the shortest, 4 the longest.")
]
Band = Annotated[
    int | None,
    Query(ge=1, le=4, description="Of the reference's confidence: 1 below 50 %, 2 to 80 %, 3 to 95 %, 4 above."),
]


class FlipsOut(Answer):
    """A study's test items, sorted."""

    study_id: int
    metric: MetricName
    rule: str
    """The meaning of right, better and worse, and the seeds that count."""
    reference: str
    counts: dict[str, dict[FlipKind, int | None]]
    """Number of items of each kind, by arm; null where the kind does not apply."""
    mcnemar: float | None
    """Exact two-sided p-value of `better` against `worse`, if each side is a single run."""
    arm: str
    kind: FlipKind
    seed: int | None
    """None: the majority of the seeds, or their mean."""
    total: int
    """Items in the slice."""
    items: tuple[FlipItem, ...] = Field(max_length=500)
    has_more: bool
    next_after: int | None
    unread: tuple[UnreadRun, ...]
    """Runs whose answers could not be read."""


@router.get("/{study_id}/flips", operation_id="listFlips", responses=problems(404, 422))
def list_flips(
    session: Reading,
    files: Store,
    study_id: int,
    arm: Annotated[str, Query(description="An arm's name; by default the arm that the verdict is about.")] = "",
    kind: Annotated[
        FlipKind | None, Query(description="By default `worse`; for the reference itself `gained`.")
    ] = None,
    seed: Annotated[
        int | None, Query(description="A single seed; by default the majority of all seeds, or their mean.")
    ] = None,
    label: Annotated[str, Query(description="The true label's name.")] = "",
    length: Quarter = None,
    sure: Band = None,
    q: Annotated[str, Query(max_length=200, description="Words in the text or in the expected completion.")] = "",
    after: Annotated[int | None, Query(ge=0, le=LARGEST_ID, description="`next_after` of the previous page.")] = None,
    limit: Limit = 50,
) -> FlipsOut:
    """Test items by which arms answer them correctly: the reference but not the arm, the arm but not the base model,
    and so on, with the answers. Filters: true label, length, the reference's confidence, text."""
    comparison = study_service.comparison(session, study_id)
    _check(comparison, arm, seed)
    flips = Flips.of(comparison, seed)
    default_arm, default_kind = flips.default(comparison.focus)
    where = Slice(
        kind=kind or (FlipKind.GAINED if arm == comparison.reference.title else default_kind),
        arm=arm or default_arm,
        label=label,
        quarter=length - 1 if length else None,
        band=sure - 1 if sure else None,
        text=q.strip(),
    )
    page = flip_service.browse(session, files, flips, where, after=-1 if after is None else after, limit=limit)
    test = flips.mcnemar(where.arm)
    return FlipsOut.from_object(
        page,
        study_id=study_id,
        metric=comparison.metric,
        rule=rule(comparison, flips, seed),
        reference=flips.reference,
        counts={title: {kind: flips.count(kind, title) for kind in FlipKind} for title in flips.arms},
        mcnemar=test.p_value if test else None,
        arm=where.arm,
        kind=where.kind,
        seed=seed,
        has_more=page.next_after is not None,
    )


def _check(comparison: StudyComparison, arm: str, seed: int | None) -> None:
    names = [a.title for a in comparison.arms]
    if arm and arm not in names:
        raise Invalid.field("arm", _("The study has no arm %(arm)r", arm=arm), choose_from(names))
    if seed is not None and seed not in comparison.spec.seeds:
        seeds = ", ".join(map(str, comparison.spec.seeds))
        raise Invalid.field(
            "seed", _("The study has no seed %(seed)s", seed=seed), _("Choose from: %(names)s", names=seeds)
        )
