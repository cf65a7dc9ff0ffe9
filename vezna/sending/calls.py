"""The requests of the API that a client has methods for. A test looks each of them up in the OpenAPI document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from vezna import models
from vezna.errors import UnknownAnswer
from vezna.sending.connection import Request, new_key

T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request and how its answer is read."""

    method: str
    template: str
    """Its path below /api/v1, as in the OpenAPI document: `/runs/{run_id}`."""
    answer: type[T]
    where: Mapping[str, object] = field(default_factory=dict)
    """Values of the path."""
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    once: bool = False
    """It takes an Idempotency-Key."""

    @property
    def request(self) -> Request:
        """With a new key, if it takes one."""
        key = new_key() if self.once else ""
        return Request(self.method, _path(self.template, self.where), self.query, self.body, key)

    def read(self, answer: Any) -> T:
        """The typed answer. Raises UnknownAnswer."""
        return _typed(self.answer, answer, self.template)


@dataclass(frozen=True)
class Watching(Generic[T]):
    """A stream of `progress` events."""

    template: str
    event: type[T]
    where: Mapping[str, object]

    @property
    def path(self) -> str:
        """Below /api/v1."""
        return _path(self.template, self.where)

    def read(self, event: Any) -> T:
        """The typed event. Raises UnknownAnswer."""
        return _typed(self.event, event, self.template)


@dataclass(frozen=True)
class Download:
    template: str
    where: Mapping[str, object]

    @property
    def path(self) -> str:
        """Below /api/v1."""
        return _path(self.template, self.where)


def _typed(kind: type[T], answer: Any, template: str) -> T:
    try:
        return TypeAdapter(kind).validate_python(answer)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UnknownAnswer(template, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _path(template: str, where: Mapping[str, object]) -> str:
    return template.format(**{name: quote(str(value), safe="") for name, value in where.items()})


def submit_run(spec: Mapping[str, Any], *, insist: bool = False) -> Call[models.Run]:
    """Queue a run. `insist` queues it although it is estimated to fit no worker."""
    return Call("POST", "/runs", models.Run, {}, {"insist": insist}, dict(spec), once=True)


def submit_study(spec: Mapping[str, Any], *, insist: bool = False) -> Call[models.SubmittedStudy]:
    """Queue all runs of a study: arms × seeds."""
    return Call("POST", "/studies", models.SubmittedStudy, {}, {"insist": insist}, dict(spec), once=True)


def run(run_id: int) -> Call[models.Run]:
    return Call("GET", "/runs/{run_id}", models.Run, {"run_id": run_id})


def runs(
    filter: str = "", *, sort: str | None = None, after: int | None = None, limit: int | None = None
) -> Call[models.RunPage]:
    """A page of the list of runs: `filter` selects ("status:failed peak > 4 GiB"), `sort` orders ("-score")."""
    query = {"filter": filter or None, "sort": sort, "after": after, "limit": limit}
    return Call("GET", "/runs", models.RunPage, {}, query)


def study(study_id: int) -> Call[models.Study]:
    return Call("GET", "/studies/{study_id}", models.Study, {"study_id": study_id})


def cancel_run(run_id: int) -> Call[models.Run]:
    return Call("POST", "/runs/{run_id}/cancel", models.Run, {"run_id": run_id}, once=True)


def cancel_study(study_id: int) -> Call[models.Study]:
    """Cancel every run of a study that has not ended."""
    return Call("POST", "/studies/{study_id}/cancel", models.Study, {"study_id": study_id}, once=True)


def study_comparison(study_id: int) -> Call[models.StudyComparison]:
    """Score, cost and verdict of every arm of a study."""
    return Call("GET", "/studies/{study_id}/comparison", models.StudyComparison, {"study_id": study_id})


def compare(
    runs: Sequence[int] = (),
    *,
    studies: Sequence[int] = (),
    collection: int | None = None,
    reference: int | None = None,
    margin_points: float | None = None,
    alternative: str | None = None,
) -> Call[models.Comparison]:
    """Compare any runs: by their ids, of studies, or of a collection, as which a study of runs trained elsewhere
    counts. `reference` is a run of the reference arm; `alternative` is `non-inferiority` or `equivalence`."""
    query = {
        "runs": ",".join(map(str, runs)) or None,
        "study": list(studies) or None,
        "collection": collection,
        "reference": reference,
        "margin": margin_points,
        "alternative": alternative,
    }
    return Call("GET", "/compare", models.Comparison, {}, query)


def artifacts(run_id: int) -> Call[list[models.Artifact]]:
    """The files of a run: adapter or model, predictions."""
    return Call("GET", "/runs/{run_id}/artifacts", list[models.Artifact], {"run_id": run_id})


def declare_study(spec: Mapping[str, Any]) -> Call[models.ExternalStudy]:
    """Declare a study whose runs are trained elsewhere (docs/elsewhere.md)."""
    return Call("POST", "/external-studies", models.ExternalStudy, {}, {}, dict(spec), once=True)


def external_studies() -> Call[list[models.ExternalStudy]]:
    """Every study whose runs are trained elsewhere, newest first."""
    return Call("GET", "/external-studies", list[models.ExternalStudy])


def external_study(study_id: int) -> Call[models.ExternalStudy]:
    """A study whose runs are trained elsewhere."""
    return Call("GET", "/external-studies/{collection_id}", models.ExternalStudy, {"collection_id": study_id})


def open_run(study_id: int, opening: Mapping[str, Any]) -> Call[models.RunState]:
    """Open the run of an arm and a seed, or find it again by its key."""
    where = {"collection_id": study_id}
    return Call("POST", "/external-studies/{collection_id}/runs", models.RunState, where, body=dict(opening))


def report(run_id: int, batch: Mapping[str, Any]) -> Call[models.RunState]:
    """Report a numbered batch of steps and evaluations; the same batch again changes nothing."""
    return Call("POST", "/runs/{run_id}/reports", models.RunState, {"run_id": run_id}, body=dict(batch))


def end_run(run_id: int, ending: Mapping[str, Any]) -> Call[models.RunState]:
    """End a run that is trained elsewhere; the same end again changes nothing."""
    return Call("POST", "/runs/{run_id}/end", models.RunState, {"run_id": run_id}, body=dict(ending))


def watch_run(run_id: int) -> Watching[models.RunProgress]:
    """The progress of a run until it has ended."""
    return Watching("/runs/{run_id}/events", models.RunProgress, {"run_id": run_id})


def watch_study(study_id: int) -> Watching[models.StudyProgress]:
    """The progress of a study until its last run has ended."""
    return Watching("/studies/{study_id}/events", models.StudyProgress, {"study_id": study_id})


def artifact_content(artifact_id: int) -> Download:
    return Download("/artifacts/{artifact_id}/content", {"artifact_id": artifact_id})


def study_report(study_id: int) -> Download:
    """A study's page as one HTML file."""
    return Download("/studies/{study_id}/report", {"study_id": study_id})


def study_table(study_id: int, table: str = "runs", ending: str = "csv") -> Download:
    """A table of a study, `runs`, `items` or `steps`, as `csv` or `parquet`."""
    where = {"study_id": study_id, "table": table, "ending": ending}
    return Download("/studies/{study_id}/tables/{table}.{ending}", where)


def export_archive(export_id: int) -> Download:
    """The files of an export with their checksums and its receipt, as a tar archive."""
    return Download("/exports/{export_id}/archive", {"export_id": export_id})
