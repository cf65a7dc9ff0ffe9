"""Parity checks of servers: submit, claim, report, cancel."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.broker.queue import Doorbell
from app.domain.accounts.audit import Action
from app.domain.errors import Conflict, Invalid
from app.domain.messages import _
from app.domain.runs.status import RunStatus
from app.domain.tasks import TASKS, MetricName, generates
from app.features.shipping.rules.parity import Parity
from app.features.shipping.rules.parity_check import MOST_ITEMS, NewParityCheck
from app.features.shipping.services.exports import margin
from app.features.shipping.services.work import CHECKS
from app.features.shipping.tables import ParityCheckRow
from app.services.outbound.outbound import Outbound
from app.services.ownership.ownership import lost_access
from app.services.ownership.vault import Vault
from app.services.users import audit
from app.services.workers.work import Claimed
from app.settings import Settings
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.runs import artifacts
from app.store.runs import queries as runs
from app.store.tables import RunRow


@dataclass(frozen=True)
class ParityClaim(Claimed):
    """A parity check that this worker has, with everything that it needs."""

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
    if TASKS[task].adds_head:
        what = _("Run %(run)s classifies with a head, which OpenAI's API has no request for", run=run.id)
        return Invalid.field("run_id", what, _("Compare an export with the shipping gate instead"))
    if not TASKS[task].generates:
        what = _("Run %(run)s generates no text that a server could generate too", run=run.id)
        return Invalid.field("run_id", what, _("Compare an export with the shipping gate instead"))
    if TASKS[task].encoder_decoder:
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
    for earlier in CHECKS.of(session, run_id):
        if earlier.live and (earlier.url, earlier.model) == (new.url, model):
            raise Conflict(_("Parity check %(id)s of this server has not ended: cancel it first.", id=earlier.id))
    key = new.api_key.get_secret_value()
    row = ParityCheckRow(
        run_id=run_id,
        url=new.url,
        model=model,
        api_key=Vault(settings).encrypt(key) if key else "",
        sample=new.items,
    )
    CHECKS.submit(session, bell, row)
    audit.record(session, Action.SUBMIT_PARITY_CHECK, row.id, run=run_id, url=new.url, model=model)
    return row


def begin(session: Session, check_id: int) -> ParityClaim | None:
    """Claim a parity check. None if it has ended, a live worker has it, or its user has lost access, so that it
    fails."""
    if (row := CHECKS.claim(session, check_id)) is None:
        return None
    run = runs.get(session, row.run_id)
    if lost := lost_access(session, row.owner_id, run):
        CHECKS.failed(session, Claimed(row.id, row.epoch), lost)
        return None
    metric = run.spec.verdict_metric
    return ParityClaim(
        id=row.id,
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


def succeeded(session: Session, claim: ParityClaim, result: Parity) -> bool:
    """Write the result. False as `progress`."""
    return CHECKS.complete(session, claim, result_json=result.model_dump(mode="json"))


def _prompt_tokens(session: Session, run: RunRow) -> int:
    """As `worker.engine.tasks.completions.longest_prompt`."""
    training, model = run.spec.training, base_models.by_id(session, run.base_model_id)
    limit = model.facts.max_positions if model and model.facts else None
    if limit is None:
        return training.max_length
    return min(training.max_length, limit - run.spec.method.virtual_tokens - training.max_new_tokens)
