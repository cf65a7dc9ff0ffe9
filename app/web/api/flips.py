"""A study's flips as JSON: its test items by who got them right, with everybody's answers."""

from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.domain.comparison.flips import FlipKind, Flips
from app.domain.comparison.study import StudyComparison
from app.domain.errors import Invalid
from app.domain.messages import _, choose_from
from app.domain.tasks import MetricName
from app.services import flips as flip_service
from app.services import studies as study_service
from app.services.flip_answers import Answer
from app.services.flips import FlipItem, Found, Slice
from app.store.queries.page import LARGEST_ID
from app.web.api.run_list import Limit
from app.web.http.dependencies import Reading, Store
from app.web.http.errors import problems
from app.web.pages.study.flips import usual
from app.web.text.flips import rule

router = APIRouter(prefix="/studies", tags=["studies"])

Quarter = Annotated[
    int | None, Query(ge=1, le=4, description="By length in characters: 1 the shortest, 4 the longest.")
]
Band = Annotated[
    int | None,
    Query(ge=1, le=4, description="Of the reference's confidence: 1 below 50 %, 2 to 80 %, 3 to 95 %, 4 above."),
]


class AnswerOut(BaseModel):
    """What a model made of an item, over the seeds that count."""

    score: float
    """Mean of the study's metric."""
    seeds: int
    right: int
    """Seeds whose score is above one half."""
    label: str | None = None
    """The label that most seeds chose."""
    probability: float | None = None
    """That those seeds gave to it, mean."""
    probability_of_true_label: float | None = None
    text: str | None = None
    """Of generated answers, the first seed's."""
    text_seed: int | None = None
    text_metrics: dict[MetricName, float] | None = None

    @classmethod
    def of(cls, found: Answer | None, labels: tuple[str, ...]) -> Self | None:
        """From the services."""
        if found is None:
            return None
        return cls(
            score=found.score,
            seeds=found.seeds,
            right=found.right,
            label=_name(found.label, labels),
            probability=found.sure,
            probability_of_true_label=found.of_label,
            text=found.text,
            text_seed=found.text_seed,
            text_metrics=dict(found.text_metrics) if found.text_metrics is not None else None,
        )


class FlipItemOut(BaseModel):
    """A test item and everybody's answer."""

    position: int
    """In the test split, from 0."""
    item: str
    text: str
    label: str | None
    """The true one."""
    wanted: str | None
    """The completion that was wanted."""
    untouched: AnswerOut | None
    reference: AnswerOut | None
    arm: AnswerOut | None

    @classmethod
    def of(cls, found: FlipItem, labels: tuple[str, ...]) -> Self:
        """From the services."""
        return cls(
            position=found.position,
            item=found.item,
            text=found.text,
            label=_name(found.label, labels),
            wanted=found.wanted,
            untouched=AnswerOut.of(found.base, labels),
            reference=AnswerOut.of(found.reference, labels),
            arm=AnswerOut.of(found.arm, labels),
        )


class FlipTroubleOut(BaseModel):
    """A run whose answers could not be read."""

    run_id: int
    arm: str
    seed: int
    why: str


class FlipsOut(BaseModel):
    """A study's test items, sorted."""

    study_id: int
    metric: MetricName
    rule: str
    """What counts as right, better and worse, and by which seeds."""
    reference: str
    counts: dict[str, dict[FlipKind, int | None]]
    """Items of each kind, by arm; null where the question makes no sense."""
    mcnemar: float | None
    """Exact two-sided p-value of `better` against `worse`, where one run stands against one."""
    arm: str
    kind: FlipKind
    seed: int | None
    """None: the majority of the seeds, or their mean."""
    total: int
    """Items in the slice."""
    items: list[FlipItemOut] = Field(max_length=500)
    has_more: bool
    next_after: int | None
    unread: list[FlipTroubleOut]


@router.get("/{study_id}/flips", operation_id="listFlips", responses=problems(404, 422))
def flips(
    session: Reading,
    files: Store,
    study_id: int,
    arm: Annotated[str, Query(description="An arm's name; left out: the one that the verdict is about.")] = "",
    kind: Annotated[FlipKind | None, Query(description="Left out: `worse`, of the reference itself `gained`.")] = None,
    seed: Annotated[int | None, Query(description="One seed alone; left out: the majority, or the mean.")] = None,
    label: Annotated[str, Query(description="The true label's name.")] = "",
    length: Quarter = None,
    sure: Band = None,
    q: Annotated[str, Query(max_length=200, description="Words in the text or in the completion wanted.")] = "",
    after: Annotated[
        int | None, Query(ge=0, le=LARGEST_ID, description="Give `next_after` of the page before.")
    ] = None,
    limit: Limit = 50,
) -> FlipsOut:
    """Test items by who got them right: the reference and not the arm, the arm and not the untouched model, and so on;
    with everybody's answer, by true label, length and the reference's confidence."""
    found = study_service.comparison(session, study_id)
    _check(found, arm, seed)
    sorted_items = Flips.of(found, seed)
    asked = usual(study_id, found, sorted_items)
    which = Slice(
        kind=kind or (FlipKind.GAINED if arm == found.reference.title else asked.kind),
        arm=arm or asked.arm,
        label=label,
        quarter=length - 1 if length else None,
        band=sure - 1 if sure else None,
        text=q.strip(),
    )
    page = flip_service.browse(session, files, sorted_items, which, after=-1 if after is None else after, limit=limit)
    return _out(study_id, found, sorted_items, which, page, seed)


def _check(found: StudyComparison, arm: str, seed: int | None) -> None:
    names = [a.title for a in found.arms]
    if arm and arm not in names:
        raise Invalid.field("arm", _("The study has no arm %(arm)r", arm=arm), choose_from(names))
    if seed is not None and seed not in found.spec.seeds:
        seeds = ", ".join(map(str, found.spec.seeds))
        raise Invalid.field(
            "seed", _("The study has no seed %(seed)s", seed=seed), _("Choose from: %(names)s", names=seeds)
        )


def _out(study_id: int, found: StudyComparison, flips: Flips, which: Slice, page: Found, seed: int | None) -> FlipsOut:
    return FlipsOut(
        study_id=study_id,
        metric=found.metric,
        rule=rule(found, flips, seed),
        reference=flips.reference,
        counts={arm: {kind: flips.count(kind, arm) for kind in FlipKind} for arm in flips.arms},
        mcnemar=flips.mcnemar(which.arm),
        arm=which.arm,
        kind=which.kind,
        seed=seed,
        total=page.total,
        items=[FlipItemOut.of(item, page.labels) for item in page.items],
        has_more=page.next_after is not None,
        next_after=page.next_after,
        unread=[FlipTroubleOut.model_validate(t, from_attributes=True) for t in page.troubles],
    )


def _name(label: int | None, labels: tuple[str, ...]) -> str | None:
    return labels[label] if label is not None and 0 <= label < len(labels) else None
