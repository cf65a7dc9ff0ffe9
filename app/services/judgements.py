"""Judgements by a judge model: submit, claim, report, cancel, and what they say of a study's arms. The database is the
queue, as for exports."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy.orm import Session

from app.domain.accounts.audit import Action
from app.domain.comparison.judged import Judged, JudgedArm, Pair, compare_judged
from app.domain.comparison.preference import Preferred, Rating
from app.domain.comparison.verdict import confidence_after
from app.domain.errors import Conflict, Invalid
from app.domain.inference import LANGUAGE
from app.domain.judgement import NewJudgement
from app.domain.messages import _
from app.queue import JUDGE, Doorbell
from app.services import audit, blind
from app.services.model_exports import silent_since
from app.services.outbound import Outbound
from app.services.vault import Vault
from app.settings import Settings
from app.store.ownership import owner_of, require_change
from app.store.queries import artifacts, blind_ratings, clock, datasets, judgements, runs, studies
from app.store.queries import model_exports as claims
from app.store.session import after_commit
from app.store.tables import JudgementRow, JudgeScoreRow, StudyRow, now


@dataclass(frozen=True)
class JudgementClaim:
    """A judgement that this worker has, with everything that it needs."""

    judgement_id: int
    epoch: int
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
    if study.spec.task in ("sequence-classification", "token-classification"):
        what = _("Study %(study)s classifies texts or words: its answers are labels", study=study.id)
        return Invalid.field("study_id", what, _("Choose a study whose runs generate text"))
    if study.spec.task not in LANGUAGE:
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
    row.rung_at = clock.now(session)
    session.add(row)
    session.flush()
    audit.record(session, Action.SUBMIT_JUDGEMENT, row.id, study=study_id, url=new.url, model=new.model)
    after_commit(session, partial(bell.ring, JUDGE, row.id))
    return row


def begin(session: Session, judgement_id: int) -> JudgementClaim | None:
    """Claim a judgement. None if it has ended, or a live worker has it."""
    at = clock.now(session)
    if not claims.begin(session, JudgementRow, judgement_id, at, silent_since(at)):
        return None
    row = session.get_one(JudgementRow, judgement_id, populate_existing=True)
    members = [run.id for run in blind.candidates(session, row.study_id)]
    stored = artifacts.predictions_of(session, members)
    return JudgementClaim(
        judgement_id=row.id,
        epoch=row.epoch,
        study_id=row.study_id,
        url=row.url,
        model=row.model,
        api_key=row.api_key,
        rubric=row.rubric,
        sample=row.sample,
        predictions={run: stored[run].file for run in members},
    )


def progress(session: Session, claim: JudgementClaim, share: float) -> bool:
    """A heartbeat. False if the judgement was cancelled or deleted, or is another worker's."""
    return _write(session, claim, {"seen_at": clock.now(session), "progress": min(max(share, 0.0), 1.0)})


def replied(session: Session, claim: JudgementClaim, key: str, score: int | None, said: str) -> bool:
    """Store what the judge replied about an answer, so that nothing asks for it again. False as `progress`."""
    if not _write(session, claim, {"seen_at": clock.now(session)}):
        return False
    known = {"judgement_id": claim.judgement_id, "study_id": claim.study_id, "key": key}
    session.add(JudgeScoreRow(**known, score=score, said="" if score else said))
    return True


def succeeded(session: Session, claim: JudgementClaim, result: Judged) -> bool:
    """Write the result. False as `progress`."""
    values: dict[str, object] = {"status": "succeeded", "progress": 1.0, "result_json": result.model_dump(mode="json")}
    return _write(session, claim, values | _ended())


def failed(session: Session, claim: JudgementClaim, message: str) -> bool:
    """Write why there is no result: a sentence. False as `progress`."""
    values: dict[str, object] = {"status": "failed", "message": message}
    return _write(session, claim, values | _ended())


def give_back(session: Session, bell: Doorbell, claim: JudgementClaim) -> None:
    """Queue a judgement again whose worker shuts down; the attempt does not count."""
    values = {"status": "queued", "attempts": JudgementRow.attempts - 1, "seen_at": None}
    if _write(session, claim, values):
        after_commit(session, partial(bell.ring, JUDGE, claim.judgement_id))


def cancel(session: Session, judgement_id: int) -> JudgementRow:
    """Cancel a judgement of the session's viewer, or of a study that the viewer may change; its worker stops within
    seconds. Raises NotFound, Forbidden, and Conflict if it has ended."""
    row = judgements.get(session, judgement_id)
    if row.owner_id != owner_of(session):
        require_change(session, studies.get(session, row.study_id))
    if not claims.cancel(session, JudgementRow, judgement_id, now()):
        session.refresh(row)
        raise Conflict(_("Judgement %(id)s has already ended (%(status)s).", id=judgement_id, status=row.status))
    session.refresh(row)
    row.api_key = ""
    audit.record(session, Action.CANCEL_JUDGEMENT, judgement_id, study=row.study_id)
    return row


def ring_again(session: Session, bell: Doorbell, at: datetime, rung_before: datetime, max_attempts: int) -> None:
    """Ring for what waits and whose ring was lost; end what has lost too many workers. The sweep does this."""
    for row in claims.waiting(session, JudgementRow, silent_since(at), rung_before):
        if row.attempts >= max_attempts:
            row.status, row.ended_at, row.api_key = "failed", now(), ""
            row.message = _("Its worker was lost in %(attempts)s attempts. Start it again.", attempts=row.attempts)
            continue
        row.rung_at = at
        after_commit(session, partial(bell.ring, JUDGE, row.id))


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
    return compare_judged(judged, arms, study.spec.reference_arm, study.spec.margin_points / 100, ratings, confidence)


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


def _ended() -> dict[str, object]:
    return {"ended_at": now(), "api_key": ""}


def _write(session: Session, claim: JudgementClaim, values: Mapping[str, object]) -> bool:
    return claims.write(session, JudgementRow, claim.judgement_id, claim.epoch, **values)
