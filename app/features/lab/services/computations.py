"""What a worker computes for the Lab: request it, and read the stored answer. The same request is computed once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.errors import Forbidden, TooMany
from app.domain.messages import _
from app.domain.methods import AnyMethod, FullSpec, LoraSpec
from app.features.lab.computations import ANSWERS, LabAnswer, LabRequest
from app.services.resources import estimates
from app.store.resources import estimates as rows
from app.store.runs import artifacts
from app.store.tables import EstimateRow
from app.store.workers import clock

MOST_WAITING = 30
"""Computations of the Lab that wait for a worker at once. Each takes about ten seconds."""
RETRY_SECONDS = 60
WEIGHTS, ADAPTER = "model/model.safetensors", "adapter/adapter_model.safetensors"
"""Files of a run's result: of full fine-tuning, and of an adapter."""


@dataclass(frozen=True)
class Computation:
    """A request and where its answer stands."""

    request: LabRequest
    state: Literal["none", "working", "ready", "failed"] = "none"
    """`none`: it was not requested yet."""
    message: str = ""
    """Why it failed."""
    answer: LabAnswer | None = None
    again_seconds: float = 0.0
    """Until a failed computation may be requested again."""


def stored(session: Session, request: LabRequest) -> Computation:
    """What is known of a request."""
    row = rows.by_keys(session, [request.key]).get(request.key)
    if row is None:
        return Computation(request)
    again = (estimates.again_at(row) - clock.now(session)).total_seconds() if row.state == "failed" else 0.0
    return Computation(request, row.state, row.message, _answer(row), max(0.0, again))


def _answer(row: EstimateRow) -> LabAnswer | None:
    return ANSWERS.validate_python(row.result_json) if row.result_json else None


def start(session: Session, bell: Doorbell, request: LabRequest, *, may_run: bool) -> None:
    """Have a worker compute an answer that is not stored yet. Raises Forbidden for what a viewer cannot request, and
    TooMany if too much waits."""
    if not may_run and request.members_only:
        raise Forbidden(request.members_only)
    if not rows.by_keys(session, [request.key]):
        require_short_queue(session, "lab")
    estimates.wanted(session, bell, request)


def require_short_queue(session: Session, kind: str) -> None:
    """Raise TooMany if many requests of a kind wait, which viewers may add to."""
    if rows.queued(session, kind) >= MOST_WAITING:
        raise TooMany(_("Too many computations of the Lab wait for a worker. Try again in a minute."), RETRY_SECONDS)


def trained(session: Session, runs: Mapping[int, AnyMethod]) -> dict[int, dict[str, Any]]:
    """The fields of a request that name what runs have trained, by run: of full fine-tuning, and of LoRA whose update
    is B·A alone. Runs of other methods, and runs without the file, are left out."""
    full = artifacts.named(session, [run for run, method in runs.items() if isinstance(method, FullSpec)], WEIGHTS)
    plain = {run: method for run, method in runs.items() if isinstance(method, LoraSpec) and _is_plain(method)}
    adapters = artifacts.named(session, list(plain), ADAPTER)
    found: dict[int, dict[str, Any]] = {run: {"full_file": file} for run, file in full.items()}
    for run, file in adapters.items():
        method = plain[run]
        scale = method.lora_alpha / (method.r**0.5 if method.use_rslora else method.r)
        found[run] = {"lora_file": file, "lora_scale": scale}
    return found


def _is_plain(method: LoraSpec) -> bool:
    return not method.use_dora and not method.moves_base and method.bias == "none"
