"""Any runs held against each other, over HTTP."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from app.domain.comparison.confounders import Obstacle, Takes, What
from app.domain.comparison.costs import Spread
from app.domain.comparison.runs import Against, Compared, ComparedArm
from app.domain.comparison.verdict import VerdictKind
from app.domain.errors import Invalid, NotFound
from app.domain.messages import _
from app.domain.methods import Family
from app.services import compare as compare_service
from app.services.compare import Asked
from app.store.queries.page import LARGEST_ID
from app.web.api.comparison import SpreadOut
from app.web.http.dependencies import Reading
from app.web.http.errors import problems
from app.web.numbers import NotANumber, parse_number
from app.web.text.runs_comparison import consequence, differs, failed, headline, remark, verdict_word, why_none

router = APIRouter(tags=["compare"])

LARGEST_MARGIN = 100
RowId = Annotated[int, Field(ge=1, le=LARGEST_ID)]


class AgainstOut(BaseModel):
    """An arm against the reference; fractions."""

    kind: VerdictKind
    word: str
    basis: Literal["items", "shares", "none"]
    """Item by item; from two shares of as many items, taken as independent (Newcombe 1998); or not at all."""
    hint: VerdictKind | None
    """For `hint`: what the items alone would say."""
    reason: str
    """Why there is no verdict."""
    delta: float | None
    low: float | None
    high: float | None
    confidence: float | None

    @classmethod
    def of(cls, found: Against) -> Self:
        """From the domain."""
        seen = found.difference
        return cls(
            kind=found.kind,
            word=verdict_word(found),
            basis=found.basis,
            hint=found.hint,
            reason=why_none(found),
            delta=seen.delta if seen else None,
            low=seen.low if seen else None,
            high=seen.high if seen else None,
            confidence=seen.confidence if seen else None,
        )


class ScoreOut(BaseModel):
    """A mean with its 95 % interval, where that is known."""

    mean: float
    low: float | None
    high: float | None


class ComparedArmOut(BaseModel):
    """Runs that differ by their seed alone."""

    title: str
    method: str
    family: Family
    reference: bool
    imported: bool
    runs: list[int]
    seeds: int
    """How many have a score."""
    failed: str
    """Why none has: `out of memory`; empty where one has, or none of its runs failed."""
    score: ScoreOut | None
    against: AgainstOut | None
    costs: dict[str, SpreadOut]
    """`peak_bytes`, `train_seconds`, `trainable_parameters`, `file_bytes`: those that are known."""
    settings: dict[str, str]

    @classmethod
    def of(cls, arm: ComparedArm) -> Self:
        """From the domain."""
        own = arm.score
        return cls(
            title=arm.title,
            method=arm.first.method,
            family=arm.family,
            reference=arm.is_reference,
            imported=arm.imported,
            runs=[run.run_id for run in arm.runs],
            seeds=arm.seeds,
            failed=failed(arm),
            score=ScoreOut(mean=own.mean, low=own.low, high=own.high) if own else None,
            against=AgainstOut.of(arm.against) if arm.against else None,
            costs={name: _spread(spread) for name, spread in arm.costs.items()},
            settings=dict(arm.first.settings),
        )


def _spread(found: Spread) -> SpreadOut:
    return SpreadOut.of(found)


class ObstacleOut(BaseModel):
    """Something that makes them incomparable, and what it takes away."""

    what: What
    takes: Takes
    differs: str
    consequence: str
    sentence: str
    values: dict[str, list[str]]
    """Arms by the value that they have; an empty one is not known, or is only so or not so."""

    @classmethod
    def of(cls, found: Obstacle, arms: int) -> Self:
        """From the domain."""
        return cls(
            what=found.what,
            takes=found.takes,
            differs=differs(found, arms),
            consequence=consequence(found),
            sentence=remark(found, arms),
            values={value: list(names) for value, names in found.values.items()},
        )


class McNemarOut(BaseModel):
    """Two single runs on the same items that are right or wrong."""

    only_arm: int
    only_reference: int
    p_value: float


class ComparedOut(BaseModel):
    """Any runs, weighed."""

    headline: str
    metric: str
    margin: float
    confidence: float
    """Of all verdicts together: 0.95, and more where seeds were added after results had been seen."""
    scores_comparable: bool
    memory_comparable: bool
    times_comparable: bool
    arms: list[ComparedArmOut]
    obstacles: list[ObstacleOut]
    """The gravest first."""
    mcnemar: McNemarOut | None
    differing: dict[str, list[str]]
    """Settings that are not the same for all, with the value of each arm."""

    @classmethod
    def of(cls, found: Compared) -> Self:
        """From the domain."""
        test = found.mcnemar
        return cls(
            headline=headline(found),
            metric=found.metric,
            margin=found.margin,
            confidence=found.confidence,
            scores_comparable=found.scores_comparable,
            memory_comparable=found.memory_comparable,
            times_comparable=found.times_comparable,
            arms=[ComparedArmOut.of(arm) for arm in found.arms],
            obstacles=[ObstacleOut.of(obstacle, len(found.arms)) for obstacle in found.obstacles],
            mcnemar=McNemarOut(only_arm=test.only_first, only_reference=test.only_reference, p_value=test.p_value)
            if test
            else None,
            differing={name: list(values) for name, values in found.differing().items()},
        )


def numbers(text: str) -> tuple[int, ...]:
    """`1,2, 3` as numbers of runs. Raises Invalid for a word that is none."""
    found = []
    for word in text.replace(",", " ").split():
        if not (word.isascii() and word.isdecimal()) or not 1 <= int(word[:12]) <= LARGEST_ID or len(word) > 12:
            raise Invalid.field(
                "runs", _("%(word)r is not the id of a run", word=word[:20]), _("Write ids such as 12,15")
            )
        found.append(int(word))
    return tuple(dict.fromkeys(found))


def points_typed(text: str) -> float | None:
    """A margin as it is typed, with a point or a comma; None for nothing. Raises Invalid for what is none."""
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


def asked(
    runs: Annotated[list[str], Query(description="Numbers of runs: `1,2,3`, or several times.")] = [],  # noqa: B006
    study: Annotated[list[RowId], Query(description="Every run of a study that counts in its verdict.")] = [],  # noqa: B006
    collection: Annotated[RowId | None, Query(description="Every run of a collection.")] = None,
    reference: Annotated[
        RowId | None,
        Query(description="A run of the arm to hold the others against; left out, the study's reference, or full."),
    ] = None,
    margin: Annotated[
        str, Query(description="In points, above 0 and up to 100; left out, that of the study that all are of, else 1.")
    ] = "",
) -> Asked:
    """What the address asks for."""
    return Asked(numbers(" ".join(runs)), tuple(study), collection, reference, points_typed(margin))


AskedRuns = Annotated[Asked, Depends(asked)]


@router.get("/compare", operation_id="compareRuns", responses=problems(404, 422))
def compare(session: Reading, wanted: AskedRuns) -> ComparedOut:
    """Hold any runs against each other, of one study or of many, of here or imported. Runs that differ by their seed
    alone are one arm. What makes them incomparable is in `obstacles`, each with its consequence."""
    found = compare_service.compare(session, wanted)
    if found.missing:
        raise NotFound(_("There is no run %(missing)s.", missing=", ".join(map(str, found.missing[:20]))))
    if found.compared is None:
        raise Invalid.field("runs", _("No run is given"), _("Add runs=1,2,3, study=4 or collection=5 to the address"))
    if found.stray_reference is not None:
        raise Invalid.field(
            "reference",
            _("Run %(run)s is not among the compared runs", run=found.stray_reference),
            _("Choose one of them"),
        )
    return ComparedOut.of(found.compared)
