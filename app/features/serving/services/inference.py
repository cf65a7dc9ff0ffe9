"""Inference: which runs can answer, what an inference process needs to load their models, and requests to it.

A request goes through the broker and not through the database: it is worth nothing once its reader has left, and its
tokens would be rows (docs/decisions/0027-inference-through-the-broker.md).
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any

from sqlalchemy.orm import Session

from app.broker.exchange import Reader
from app.domain.errors import FieldError, Invalid
from app.domain.messages import Message, _
from app.domain.models.exports import ExportFormat, merged_bytes
from app.domain.runs.status import RunStatus
from app.domain.tasks import ANSWERING, DECODERS, LANGUAGE, PICTURES, TASKS, Format, Task
from app.features.serving.rules import (
    MOST_GENERATED,
    MOST_PICTURES,
    TURN_TOKENS,
    Decoding,
    Given,
    InferenceRequest,
    ModelJob,
    Picture,
    Subject,
    raised,
)
from app.services.models.trained import job_of, saved_weights
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.runs import queries as runs
from app.store.tables import RunRow


@dataclass(frozen=True)
class Answerer:
    """A run whose model can answer."""

    run: RunRow
    task: Task
    rows: Format
    labels: Sequence[str]

    @property
    def writes(self) -> bool:
        """It answers with a text."""
        return self.task in LANGUAGE

    @property
    def beside(self) -> frozenset[Task]:
        """The tasks whose models answer beside it."""
        return LANGUAGE if self.writes else frozenset({self.task})

    def new_tokens(self, decoding: Decoding) -> int:
        """The most tokens of an answer."""
        return decoding.max_new_tokens or self.run.spec.training.max_new_tokens if self.writes else 0


@dataclass(frozen=True)
class Loadable:
    """A subject, and the files that its run saved: names below a directory, by names in the files store."""

    job: ModelJob
    files: Mapping[str, str] = field(default_factory=dict)
    hub_user: int | None = None
    """The run's owner, if the base model opens to a user's hub token only."""


def answerer(session: Session, run_id: int, path: str = "run_id") -> Answerer:
    """A run that can answer. Raises NotFound, and Invalid at `path` for a run without a model."""
    run = runs.get(session, run_id)
    if refused := _refusal(session, run):
        raise Invalid.field(path, refused, _("Choose a run that has succeeded and is no trial"))
    if run.spec.task not in ANSWERING:
        what = _("A model for %(task)s gives no label, tags or text", task=run.spec.task)
        raise Invalid.field(path, what, _("Export the model and load it with transformers"))
    dataset = datasets.by_id(session, run.dataset_id)
    assert dataset is not None  # noqa: S101 a foreign key holds it
    return Answerer(run, run.spec.task, dataset.facts.format, dataset.facts.labels)


def side_by_side(session: Session, subjects: Iterable[Subject], path: str = "model") -> list[Answerer]:
    """The runs of some subjects, in their order. Raises NotFound, and Invalid if they cannot answer one input."""
    answerers = [answerer(session, subject.run_id, path) for subject in subjects]
    first = answerers[0]
    for other in answerers[1:]:
        if other.writes != first.writes:
            what = _(
                "Run %(one)s classifies texts and run %(other)s generates them",
                one=(other if first.writes else first).run.id,
                other=(first if first.writes else other).run.id,
            )
            raise Invalid.field(path, what, _("Compare runs of one kind"))
        if other.task not in first.beside:
            what = _(
                "Run %(one)s is for %(task)s and run %(other)s for %(another)s",
                one=first.run.id,
                task=first.task,
                other=other.run.id,
                another=other.task,
            )
            raise Invalid.field(path, what, _("Compare runs of one task"))
    return answerers


def check_inputs(answers: Answerer, inputs: Sequence[Given], decoding: Decoding) -> None:
    """Raise Invalid for inputs whose form the task does not read, and for more tokens than a request may generate."""
    new_tokens = answers.new_tokens(decoding)
    if len(inputs) * new_tokens > MOST_GENERATED:
        what = _(
            "%(n)s inputs with %(new)s new tokens each are %(total)s tokens, and a request generates at most %(most)s",
            n=len(inputs),
            new=new_tokens,
            total=len(inputs) * new_tokens,
            most=MOST_GENERATED,
        )
        remedy = _("Send at most %(n)s inputs, or lower max_new_tokens", n=MOST_GENERATED // new_tokens)
        raise Invalid.field("inputs", what, remedy)
    if sum(isinstance(given, Picture) for given in inputs) > MOST_PICTURES:
        raise Invalid.field("inputs", _("A request has at most %(n)s images", n=MOST_PICTURES), _("Send fewer"))
    errors = []
    for index, given in enumerate(inputs):
        if isinstance(given, Picture) != (answers.task in PICTURES):
            read, other, remedy = _("images"), _("texts"), _("Send an image")
            if isinstance(given, Picture):
                read, other, remedy = other, read, _("Send a text")
            what = _("A model for %(task)s reads %(read)s, not %(other)s", task=answers.task, read=read, other=other)
            errors.append(FieldError(f"inputs.{index}", what, remedy))
        elif isinstance(given, Picture):
            continue
        elif isinstance(given, str):
            if not given.strip():
                errors.append(FieldError(f"inputs.{index}", _("This input is empty"), _("Write a text")))
        elif isinstance(given[0], str):
            if TASKS[answers.task].output != "tags":
                what = _("A model for %(task)s reads no list of words", task=answers.task)
                errors.append(FieldError(f"inputs.{index}", what, _("Send a text")))
            elif not all(str(word).strip() for word in given):
                errors.append(FieldError(f"inputs.{index}", _("A word is empty"), _("Leave it out")))
        elif answers.task not in DECODERS:
            what = _("A model for %(task)s reads no conversation", task=answers.task)
            errors.append(FieldError(f"inputs.{index}", what, _("Send a text")))
    if errors:
        raise Invalid.of(errors[:20])


def of_subject(session: Session, subject: Subject) -> Loadable:
    """What loads a subject. Raises NotFound, Invalid."""
    run = answerer(session, subject.run_id).run
    model, dataset = base_models.by_id(session, run.base_model_id), datasets.by_id(session, run.dataset_id)
    if model is None or model.facts is None or dataset is None:
        raise Invalid.field(
            "run_id", _("The base model of run %(run)s is not inspected", run=run.id), _("Register it again")
        )
    weights = saved_weights(session, run)
    whole = any(file.kind == "model" for file in weights) and not subject.base
    bf16 = run.precision == "bf16"
    form = ExportFormat.MERGED_BFLOAT16 if bf16 else ExportFormat.MERGED_FLOAT32
    job = ModelJob(
        key=f"{'base' if subject.base else 'run'} {run.id}/{run.epoch}",
        job=job_of(run, model, dataset),
        whole=whole,
        dtype="bfloat16" if bf16 else "float32",
        base_bytes=merged_bytes(model.facts.task_model(run.spec.task, len(dataset.facts.labels)), form),
        own_bytes=0 if whole or subject.base else sum(file.bytes for file in weights),
    )
    files = {} if subject.base else {file.file: file.name.partition("/")[2] for file in weights}
    return Loadable(job, files, run.owner_id if model.restricted else None)


def reserved_bytes(session: Session, host: str) -> int:
    """Memory that runs on the CPUs of this machine are predicted to need beyond what they use. Workers of a machine
    begin their names with its name (`worker.machine.naming`)."""
    return sum(max(0, (run.estimated_bytes or 0) - (run.memory_bytes or 0)) for run in runs.on_cpus_of(session, host))


def turns(answers: Answerer, whole: InferenceRequest) -> list[tuple[int, InferenceRequest]]:
    """A request as several, each with the place of its first input, so that other requests are answered between them.
    Sampled rows keep their seeds, and greedy ones their batches."""
    new_tokens, batch = answers.new_tokens(whole.decoding), answers.run.spec.training.per_device_eval_batch_size
    if not new_tokens:
        return [(0, whole)]
    size = max(1, TURN_TOKENS // (new_tokens * batch)) * batch
    parts = []
    for first in range(0, len(whole.inputs), size):
        decoding = whole.decoding.model_copy(update={"seed": (whole.decoding.seed + first) % 2**63})
        inputs = whole.inputs[first : first + size]
        parts.append((first, whole.model_copy(update={"id": token_hex(16), "inputs": inputs, "decoding": decoding})))
    return parts


def at_place(error: Invalid, first: int) -> Invalid:
    """An error about one of the `turns`, with the places of its inputs in the whole request."""
    fields = []
    for one in error.fields:
        name, _dot, place = one.path.partition(".")
        moved = name == "inputs" and place.isdecimal()
        fields.append(replace(one, path=f"inputs.{int(place) + first}") if moved else one)
    return Invalid(error.message, fields)


def request(kind: str, subjects: Sequence[Subject], inputs: Sequence[Given], **options: Any) -> InferenceRequest:
    """A request with a random id of its own."""
    values = {"id": token_hex(16), "kind": kind, "subjects": list(subjects), "inputs": list(inputs)}
    return InferenceRequest.model_validate(values | options)


async def events(reader: Reader, work: InferenceRequest) -> AsyncGenerator[dict[str, Any]]:
    """The events of a request but the last one. The worker stops once the iterator is closed. Raises Unavailable, and
    what the worker refuses the request with."""
    async for event in reader.ask(work.id, work.model_dump_json()):
        if event["type"] == "failed":
            raise raised(event)
        if event["type"] == "end":
            return
        yield event


def _refusal(session: Session, run: RunRow) -> Message | None:
    if run.imported:
        return _("Run %(run)s was imported, so its model is elsewhere", run=run.id)
    if run.status != RunStatus.SUCCEEDED:
        return _("Run %(run)s is %(status)s", run=run.id, status=run.status)
    if not saved_weights(session, run):
        return _("Run %(run)s has saved no weights: it is a trial", run=run.id)
    return None
