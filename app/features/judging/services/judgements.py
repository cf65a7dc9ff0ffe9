"""Judgements by a judge model: submit, claim, report, cancel, and what they say of a study's arms."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.broker.queue import JUDGE, Doorbell
from app.domain.accounts.audit import Action
from app.domain.comparison.statistics.judged import Judged, JudgedArm, Pair, compare_judged
from app.domain.comparison.statistics.preference import Preferred, Rating
from app.domain.comparison.statistics.verdict import confidence_after
from app.domain.errors import Conflict, Invalid
from app.domain.messages import _
from app.domain.tasks import TASKS
from app.features.judging.queries import blind_ratings, judgements
from app.features.judging.rules import NewJudgement
from app.features.judging.services import blind
from app.features.judging.tables import JudgementRow, JudgeScoreRow
from app.services.outbound.outbound import Outbound
from app.services.ownership.ownership import lost_access
from app.services.ownership.vault import Vault
from app.services.users import audit
from app.services.workers.work import Claimed, WorkKind
from app.settings import Settings
from app.store.data import queries as datasets
from app.store.database.ownership import require_change
from app.store.runs import artifacts
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import StudyRow
from app.store.workers import clock

JUDGEMENTS = WorkKind(
    JudgementRow,
    JUDGE,
    missing=lambda row_id: _("There is no judgement %(id)s.", id=row_id),
    over=lambda row_id, status: _("Judgement %(id)s has already ended (%(status)s).", id=row_id, status=status),
    lost=lambda attempts: _("Its worker was lost in %(attempts)s attempts. Start it again.", attempts=attempts),
    parent="study_id",
    get_parent=studies.get,
    change_parent=lambda session, study_id: require_change(session, studies.get(session, study_id)),
    cancelled=Action.CANCEL_JUDGEMENT,
    audited="study_id",
    has_key=True,
)


@dataclass(frozen=True)
class JudgementClaim(Claimed):
    """A judgement that this worker has, with everything that it needs."""

    study_id: int
    url: str
    model: str
    api_key: str
    """Encrypted."""
    rubric: str
    sample: int
    """The most test items."""
    predictions: Mapping[int, str]
    """By run, its predictions file in the files store."""


def refusal(session: Session, study: StudyRow) -> Invalid | None:
    """Why no judge can score the answers of a study, or None."""
    if TASKS[study.spec.task].adds_head:
        what = _("Study %(study)s classifies: its answers are labels", study=study.id)
        return Invalid.field("study_id", what, _("Choose a study whose runs generate text"))
    if not TASKS[study.spec.task].generates:
        what = _("The runs of study %(study)s generate no text", study=study.id)
        return Invalid.field("study_id", what, _("Choose a study whose runs generate text"))
    dataset = datasets.by_id(session, study.dataset_id)
    if dataset is None or dataset.facts.format == "text":
        what = _("The rows of study %(study)s are plain texts, without prompts to answer", study=study.id)
        return Invalid.field("study_id", what, _("Choose a study on prompts and completions, or on messages"))
    return None


def submit(session: Session, bell: Doorbell, settings: Settings, study_id: int, new: NewJudgement) -> JudgementRow:
    """Queue a judgement. Raises NotFound; Invalid for a study without generated answers and for an address that may
    not be reached; Conflict while another judgement of the study has not ended; Unavailable without a key of the
    vault."""
    study = studies.get(session, study_id, lock=True)  # so that two clicks make one judgement
    if refused := refusal(session, study):
        raise refused
    if not blind.candidates(session, study_id):
        what = _("No run of study %(study)s has answered the test items yet", study=study_id)
        raise Invalid.field("study_id", what, _("Wait until a run has succeeded"))
    Outbound(settings).require_listed(new.url)
    if earlier := judgements.live(session, study_id):
        raise Conflict(_("Judgement %(id)s of this study has not ended: cancel it first.", id=earlier.id))
    key = new.api_key.get_secret_value()
    row = JudgementRow(
        study_id=study_id,
        url=new.url,
        model=new.model,
        api_key=Vault(settings).encrypt(key) if key else "",
        rubric=new.rubric,
        sample=new.items,
    )
    JUDGEMENTS.submit(session, bell, row)
    audit.record(session, Action.SUBMIT_JUDGEMENT, row.id, study=study_id, url=new.url, model=new.model)
    return row


def begin(session: Session, judgement_id: int) -> JudgementClaim | None:
    """Claim a judgement. None if it has ended, a live worker has it, or its user has lost access, so that it fails."""
    if (row := JUDGEMENTS.claim(session, judgement_id)) is None:
        return None
    if lost := lost_access(session, row.owner_id, studies.get(session, row.study_id)):
        JUDGEMENTS.failed(session, Claimed(row.id, row.epoch), lost)
        return None
    members = [run.id for run in blind.candidates(session, row.study_id)]
    stored = artifacts.predictions_of(session, members)
    return JudgementClaim(
        id=row.id,
        epoch=row.epoch,
        study_id=row.study_id,
        url=row.url,
        model=row.model,
        api_key=row.api_key,
        rubric=row.rubric,
        sample=row.sample,
        predictions={run: stored[run].file for run in members},
    )


def replied(session: Session, claim: JudgementClaim, key: str, score: int | None, said: str) -> bool:
    """Store what the judge replied about an answer, so that nothing asks for it again. False as `progress`."""
    if not JUDGEMENTS.write(session, claim, seen_at=clock.now(session)):
        return False
    known = {"judgement_id": claim.id, "study_id": claim.study_id, "key": key}
    session.add(JudgeScoreRow(**known, score=score, said="" if score else said))
    return True


def succeeded(session: Session, claim: JudgementClaim, result: Judged) -> bool:
    """Write the result. False as `progress`."""
    return JUDGEMENTS.complete(session, claim, result_json=result.model_dump(mode="json"))


def arms_of(session: Session, row: JudgementRow) -> list[JudgedArm]:
    """The study's arms by the judge's scores, with the judge's error by the ratings so far; empty before the judgement
    has succeeded."""
    if (judged := row.result) is None:
        return []
    study = studies.get(session, row.study_id)
    members = [run for run in runs.of_study(session, study.id) if run.trial_round is None]
    arms = {arm.title: [run.id for run in members if run.arm == arm.title] for arm in study.spec.arms}
    confidence = confidence_after(study.interim_looks)
    ratings = _ratings(session, [run.run for run in judged.runs])
    spec = study.spec
    margin = spec.margin_points / 100
    return compare_judged(judged, arms, spec.reference_arm, margin, ratings, spec.alternative, confidence)


def newest_arms(session: Session, study_id: int) -> list[JudgedArm]:
    """The same of the newest judgement of a study that has succeeded; empty without any."""
    row = judgements.newest_result(session, study_id)
    return arms_of(session, row) if row else []


def _ratings(session: Session, run_ids: list[int]) -> dict[Pair, list[Rating]]:
    found: dict[Pair, list[Rating]] = {}
    for row in blind_ratings.of_runs(session, run_ids):
        rating = Rating(row.item, Preferred(row.preferred))
        found.setdefault((row.first_id, row.second_id), []).append(rating)
    return found
