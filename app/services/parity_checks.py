"""Parity checks of servers: submit, claim, report, cancel. The database is the queue, as for exports."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.comparison.parity import Parity
from app.domain.errors import Conflict, Invalid
from app.domain.inference import LANGUAGE
from app.domain.messages import _
from app.domain.parity_check import MOST_ITEMS, NewParityCheck
from app.domain.runs.status import RunStatus
from app.domain.tasks import MetricName, generates
from app.queue import PARITY, Doorbell
from app.services import audit
from app.services.model_exports import margin, silent_since
from app.services.outbound import Outbound
from app.services.vault import Vault
from app.settings import Settings
from app.store.ownership import owner_of, require_change
from app.store.queries import artifacts, base_models, clock, datasets, parity_checks, runs
from app.store.queries import model_exports as claims
from app.store.session import after_commit
from app.store.tables import ParityCheckRow, RunRow, now


@dataclass(frozen=True)
class ParityClaim:
    """A parity check that this worker has, with everything that it needs."""

    check_id: int
    epoch: int
    url: str
    model: str
    api_key: str
    """Encrypted."""
    sample: int
    """The most test items to send."""
    predictions: str
    """The run's predictions file in the files store."""
    metric: MetricName
    margin: float
    max_new_tokens: int
    prompt_tokens: int
    """The most tokens of a prompt that the run's evaluation has read."""


def refusal(session: Session, run: RunRow) -> Invalid | None:
    """Why no server can be compared with a run, or None."""
    if run.imported or run.status != RunStatus.SUCCEEDED or run.id not in artifacts.predictions_of(session, [run.id]):
        what = _("Run %(run)s has no predictions on the test split", run=run.id)
        return Invalid.field("run_id", what, _("Choose a run that has succeeded and is no trial"))
    task = run.spec.task
    if task in ("sequence-classification", "token-classification"):
        what = _("Run %(run)s classifies with a head, which OpenAI's API has no request for", run=run.id)
        return Invalid.field("run_id", what, _("Compare an export with the shipping gate instead"))
    if task not in LANGUAGE:
        what = _("Run %(run)s generates no text that a server could generate too", run=run.id)
        return Invalid.field("run_id", what, _("Compare an export with the shipping gate instead"))
    if task != "causal-lm":
        what = _("Run %(run)s is an encoder-decoder, which OpenAI-compatible servers do not serve", run=run.id)
        return Invalid.field("run_id", what, _("Compare an export with the shipping gate instead"))
    dataset = datasets.by_id(session, run.dataset_id)
    if dataset is None or dataset.facts.format == "text":
        what = _("The rows of run %(run)s are plain texts, without prompts that a server could answer", run=run.id)
        return Invalid.field("run_id", what, _("Choose a run on prompts and completions, or on messages"))
    return None


def submit(session: Session, bell: Doorbell, settings: Settings, run_id: int, new: NewParityCheck) -> ParityCheckRow:
    """Queue a parity check. Raises NotFound; Invalid for a run without generated text and for an address that may not
    be reached; Conflict while the same model of a server is being compared; Unavailable without a key of the vault."""
    runs.lock(session, [run_id])
    run = runs.get(session, run_id)
    if refused := refusal(session, run):
        raise refused
    Outbound(settings).require_listed(new.url)
    model = new.model or f"run-{run_id}"
    for earlier in parity_checks.of_run(session, run_id):
        if earlier.status in claims.LIVE and (earlier.url, earlier.model) == (new.url, model):
            raise Conflict(_("Parity check %(id)s of this server has not ended: cancel it first.", id=earlier.id))
    key = new.api_key.get_secret_value()
    row = ParityCheckRow(
        run_id=run_id,
        url=new.url,
        model=model,
        api_key=Vault(settings).encrypt(key) if key else "",
        sample=new.items,
    )
    row.rung_at = clock.now(session)
    session.add(row)
    session.flush()
    audit.record(session, Action.SUBMIT_PARITY_CHECK, row.id, run=run_id, url=new.url, model=model)
    after_commit(session, partial(bell.ring, PARITY, row.id))
    return row


def begin(session: Session, check_id: int) -> ParityClaim | None:
    """Claim a parity check. None if it has ended, or a live worker has it."""
    at = clock.now(session)
    if not claims.begin(session, ParityCheckRow, check_id, at, silent_since(at)):
        return None
    row = session.get_one(ParityCheckRow, check_id, populate_existing=True)
    run = runs.get(session, row.run_id)
    metric = run.spec.verdict_metric
    return ParityClaim(
        check_id=row.id,
        epoch=row.epoch,
        url=row.url,
        model=row.model,
        api_key=row.api_key,
        sample=row.sample or MOST_ITEMS,
        predictions=artifacts.predictions_of(session, [run.id])[run.id].file,
        metric=metric if generates(metric) else "rouge_l",
        margin=margin(session, run),
        max_new_tokens=run.spec.training.max_new_tokens,
        prompt_tokens=_prompt_tokens(session, run),
    )


def progress(session: Session, claim: ParityClaim, share: float) -> bool:
    """A heartbeat. False if the check was cancelled or deleted, or is another worker's."""
    return _write(session, claim, {"seen_at": clock.now(session), "progress": min(max(share, 0.0), 1.0)})


def succeeded(session: Session, claim: ParityClaim, result: Parity) -> bool:
    """Write the result. False as `progress`."""
    values: dict[str, object] = {"status": "succeeded", "progress": 1.0, "result_json": result.model_dump(mode="json")}
    return _write(session, claim, values | _ended())


def failed(session: Session, claim: ParityClaim, message: str) -> bool:
    """Write why there is no result: a sentence. False as `progress`."""
    values: dict[str, object] = {"status": "failed", "message": message}
    return _write(session, claim, values | _ended())


def give_back(session: Session, bell: Doorbell, claim: ParityClaim) -> None:
    """Queue a check again whose worker shuts down; the attempt does not count."""
    values = {"status": "queued", "attempts": ParityCheckRow.attempts - 1, "seen_at": None, "progress": 0.0}
    if _write(session, claim, values):
        after_commit(session, partial(bell.ring, PARITY, claim.check_id))


def cancel(session: Session, check_id: int) -> ParityCheckRow:
    """Cancel a check of the session's viewer, or of a run that the viewer may change; its worker stops within seconds.

    Raises NotFound, Forbidden, and Conflict if it has ended.
    """
    row = parity_checks.get(session, check_id)
    if row.owner_id != owner_of(session):
        require_change(session, runs.get(session, row.run_id))
    if not claims.cancel(session, ParityCheckRow, check_id, now()):
        session.refresh(row)
        raise Conflict(_("Parity check %(id)s has already ended (%(status)s).", id=check_id, status=row.status))
    session.refresh(row)
    row.api_key = ""
    audit.record(session, Action.CANCEL_PARITY_CHECK, check_id, run=row.run_id)
    return row


def ring_again(session: Session, bell: Doorbell, at: datetime, rung_before: datetime, max_attempts: int) -> None:
    """Ring for what waits and whose ring was lost; end what has lost too many workers. The sweep does this."""
    for row in claims.waiting(session, ParityCheckRow, silent_since(at), rung_before):
        if row.attempts >= max_attempts:
            row.status, row.ended_at, row.api_key = "failed", now(), ""
            row.message = _("Its worker was lost in %(attempts)s attempts. Start it again.", attempts=row.attempts)
            continue
        row.rung_at = at
        after_commit(session, partial(bell.ring, PARITY, row.id))


def _prompt_tokens(session: Session, run: RunRow) -> int:
    """As `worker.engine.tasks.completions.longest_prompt`."""
    training, model = run.spec.training, base_models.by_id(session, run.base_model_id)
    limit = model.facts.max_positions if model and model.facts else None
    if limit is None:
        return training.max_length
    return min(training.max_length, limit - run.spec.method.virtual_tokens - training.max_new_tokens)


def _ended() -> dict[str, object]:
    return {"ended_at": now(), "api_key": ""}


def _write(session: Session, claim: ParityClaim, values: Mapping[str, object]) -> bool:
    return claims.write(session, ParityCheckRow, claim.check_id, claim.epoch, **values)
