"""The list of runs over REST: filtered, sorted, without specs and results."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel

from app.domain.messages import _, choose_from
from app.domain.methods import METHODS
from app.domain.runs.listing.fields import NAMES
from app.domain.runs.listing.filter_tokens import LONGEST, nearest
from app.domain.runs.listing.filters import Compare, Condition, Every, Is, parse, without_archived
from app.domain.runs.status import RunStatus
from app.domain.tasks import Task
from app.domain.validation import invalid_field
from app.store.database.page import LARGEST_ID
from app.store.runs import listing as run_list
from app.store.runs.columns import SORTABLE
from app.store.runs.listing import Order, RunValues
from app.store.studies import tags
from app.web.api.answer import Answer
from app.web.http.dependencies import Reading
from app.web.http.errors import problems

router = APIRouter(prefix="/runs", tags=["runs"])


class RunState(Answer):
    """The fields of a run in a list and on its own."""

    id: int
    study_id: int | None
    arm: str
    status: RunStatus
    attempt: int
    """Number of the attempt, from 1; 0 while the run has never been claimed."""
    worker: str | None
    step: int
    train_loss: float | None
    metric: str
    """Metric of the three scores, which are from 0 to 1."""
    validation_score: float | None
    """None if the metric needs generated text, which is generated for the test split only."""
    score: float | None
    """Score of the adapted model on the test split."""
    base_score: float | None
    """Score of the base model."""
    estimated_bytes: int | None
    """Peak, without the device constant; GET /api/v1/runs/{id}/fit includes that."""
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    note: str
    tags: list[str]
    archived: bool


class RunBrief(RunState):
    """A run in a list; GET /api/v1/runs/{id} has its spec and its result."""

    method: str
    imported: bool
    """Measured elsewhere: it has no spec, and names its metric, base model and dataset itself."""
    trial: bool
    """It is a trial of a study's tuning."""
    base_model: str | None
    dataset: str | None
    task: Task | Literal[""]
    seed: int
    learning_rate: float | None
    rank: int | None
    """Rank of a low-rank method."""
    loss: float | None
    """On the test split, in nats."""
    peak_bytes: int | None
    train_seconds: float | None
    wall_seconds: float | None
    tokens_per_second: float | None
    trainable_parameters: int | None
    total_parameters: int | None
    artifact_bytes: int | None
    device_name: str | None
    precision: str | None
    failure_code: str | None

    @staticmethod
    def of(run: RunValues, tags: Sequence[str]) -> "RunBrief":
        """From the store, whose columns have these types. Validating them again would take a third of the time of a
        request for a hundred runs."""
        columns = {name: run.values[field] for name, field in FIELDS.items()}
        columns["status"] = RunStatus(columns["status"])
        return RunBrief.model_construct(tags=list(tags), **columns)


FIELDS = {name: NAMES[name].name if name in NAMES else name for name in RunBrief.model_fields if name != "tags"}
"""The name of each field in the store, except tags, which are rows of their own."""


class RunPage(BaseModel):
    """A page of sorted runs."""

    items: list[RunBrief]
    has_more: bool
    next_after: int | None


def _known_method(kind: str) -> str:
    if kind not in METHODS:
        raise invalid_field("", _("There is no method %(kind)r", kind=kind), choose_from(METHODS))
    return kind


def _known_order(sort: str) -> str:
    name = sort.removeprefix("-")
    field = NAMES.get(name)
    if field is None or field.name not in SORTABLE:
        near = nearest(name, SORTABLE)
        remedy = (
            _("Did you mean %(near)s?", near=near)
            if near
            else _("Choose from: %(names)s; a minus sorts in descending order", names=", ".join(SORTABLE))
        )
        raise invalid_field("", _("There is no sort order %(sort)r", sort=sort), remedy)
    return sort


After = Annotated[
    int | None,
    Query(ge=1, le=LARGEST_ID, description="`next_after` of the previous page."),
]
Limit = Annotated[int, Query(ge=1, le=500, description="Rows per page.")]
Method = Annotated[Annotated[str, AfterValidator(_known_method)] | None, Query(json_schema_extra={"enum": [*METHODS]})]
Filter = Annotated[
    str,
    Query(
        max_length=LONGEST,
        description="A filter: see docs/filters.md.",
        openapi_examples={"a filter": {"value": 'accuracy > 0.9 and method = "lora" and not failed'}},
    ),
]
Sort = Annotated[
    Annotated[str, AfterValidator(_known_order)],
    Query(
        description="A field, such as `peak`; with a minus in descending order: `-score`.",
        openapi_examples={"best": {"value": "-score"}},
    ),
]


@router.get("", operation_id="listRuns", responses=problems(404, 422))
def listing(
    session: Reading,
    filter: Filter = "",
    sort: Sort = "-id",
    after: After = None,
    limit: Limit = 50,
    status: RunStatus | None = None,
    study: Annotated[int | None, Query(ge=1, le=LARGEST_ID)] = None,
    method: Method = None,
) -> RunPage:
    """List runs, newest first unless `sort` says otherwise; runs without the value come last. `status`, `study` and
    `method` are added to the filter. Archived runs are left out unless the filter contains `archived`."""
    order = Order(NAMES[sort.removeprefix("-")].name, sort.startswith("-"))
    condition = _joined(filter, status, study, method)
    page = run_list.page(session, condition, order=order, after=after, limit=limit, fields=tuple(FIELDS.values()))
    own = tags.of_runs(session, [run.id for run in page.rows])
    items = [RunBrief.of(run, own.get(run.id, ())) for run in page.rows]
    return RunPage.model_construct(items=items, has_more=page.has_more, next_after=page.next_after)


def _joined(filter: str, status: RunStatus | None, study: int | None, method: str | None) -> Condition:
    parts: list[Condition] = []
    if (condition := parse(filter)) is not None:
        parts.append(condition)
    if status is not None:
        parts.append(Is(status.value))
    if study is not None:
        parts.append(Compare("study", "=", study))
    if method is not None:
        parts.append(Compare("method", "=", method))
    return without_archived(Every(tuple(parts)) if parts else None)
