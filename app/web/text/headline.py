"""A study's verdict in one phrase for a list, and in one sentence for the head of its page."""

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.comparison.verdict import VerdictKind
from app.domain.runs.status import RunStatus
from app.web.format import capitalized
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.failures import failure_label
from app.web.text.verdict import arm_name, gap_text, margin_text, score_text


def phrase(found: StudyComparison) -> str:
    """For a row of the list: `LoRA r=8 within 2 points of full`, `running, 4 of 9 runs`, `failed: out of memory`."""
    if not found.complete:
        return _waiting(found)
    arm = found.focus
    if arm is not None:
        return _verdict_phrase(found, arm)
    if not any(run.status is RunStatus.SUCCEEDED for run in found.runs):
        reasons = found.failures
        return _("failed: %(why)s", why=failure_label(reasons[0][0])) if reasons else _("cancelled")
    if not found.others:
        return _("%(arm)s alone: %(score)s", arm=found.reference.title, score=score_text(found.reference))
    return _("no verdict: %(why)s", why=_missing(found))


def headline(found: StudyComparison) -> str:
    """The page's first heading."""
    arm = found.focus
    if arm is not None:
        words = _verdict_headline(found, arm)
        return words if found.complete else _("So far, %(verdict)s", verdict=words)
    if not found.complete:
        return _under_way(found)
    if not any(run.status is RunStatus.SUCCEEDED for run in found.runs):
        return _nothing(found)
    if not found.others:
        reached = _("%(arm)s reaches %(score)s", arm=arm_name(found.reference), score=score_text(found.reference))
        return capitalized(reached)
    return _("No verdict: %(why)s", why=_missing(found))


def _waiting(found: StudyComparison) -> str:
    """A study that is not done."""
    done, total = found.done, found.total
    if all(status is RunStatus.QUEUED for status in found.statuses):
        return ngettext("queued, %(num)s run", "queued, %(num)s runs", total)
    return ngettext("running, %(done)s of %(num)s run", "running, %(done)s of %(num)s runs", total, done=done)


def _under_way(found: StudyComparison) -> str:
    """The same as a heading."""
    done, total = found.done, found.total
    if all(status is RunStatus.QUEUED for status in found.statuses):
        return ngettext("Queued: %(num)s run waits for a worker", "Queued: %(num)s runs wait for a worker", total)
    return ngettext("Running: %(done)s of %(num)s run done", "Running: %(done)s of %(num)s runs done", total, done=done)


def _missing(found: StudyComparison) -> str:
    """Why nothing was held against the reference."""
    if found.reference.score is None:
        return _("the reference %(arm)s has no result", arm=found.reference.title)
    return _("only the reference %(arm)s has a result", arm=found.reference.title)


def _nothing(found: StudyComparison) -> str:
    """No run succeeded."""
    reasons, total = found.failures, found.total
    if not reasons:
        return _("Cancelled before a run had ended")
    reason, times = reasons[0]
    if times == total:
        return ngettext("The run failed: %(why)s", "All %(num)s runs failed: %(why)s", total, why=failure_label(reason))
    return _("No run succeeded: %(why)s, %(times)s of %(total)s", why=failure_label(reason), times=times, total=total)


def _verdict_phrase(found: StudyComparison, arm: StudyArm) -> str:
    values = {"arm": arm.title, "reference": found.reference.title, "margin": margin_text(found)}
    match arm.verdict_kind:
        case VerdictKind.WITHIN:
            return _("%(arm)s within %(margin)s of %(reference)s", **values)
        case VerdictKind.BETTER:
            return _("%(arm)s better than %(reference)s by %(by)s", by=gap_text(arm), **values)
        case VerdictKind.WORSE:
            return _("%(arm)s worse than %(reference)s by %(by)s", by=gap_text(arm), **values)
        case VerdictKind.UNDECIDED:
            return _("undecided: %(arm)s against %(reference)s, margin %(margin)s", **values)
        case _:
            return _("one seed, a hint: %(claim)s", claim=_hinted(found, arm, arm.title, found.reference.title))


def _verdict_headline(found: StudyComparison, arm: StudyArm) -> str:
    reference = arm_name(found.reference)
    values = {"arm": arm_name(arm), "reference": reference, "margin": margin_text(found)}
    match arm.verdict_kind:
        case VerdictKind.WITHIN:
            words = _("%(arm)s is within %(margin)s of %(reference)s", **values)
        case VerdictKind.BETTER:
            words = _("%(arm)s is %(by)s better than %(reference)s", by=gap_text(arm), **values)
        case VerdictKind.WORSE if len(found.others) > 1 and all(
            a.verdict_kind is VerdictKind.WORSE for a in found.others
        ):
            words = _("no arm reaches %(reference)s: %(arm)s comes closest, %(by)s below", by=gap_text(arm), **values)
        case VerdictKind.WORSE:
            words = _("%(arm)s is %(by)s worse than %(reference)s", by=gap_text(arm), **values)
        case VerdictKind.UNDECIDED:
            words = _("undecided whether %(arm)s is within %(margin)s of %(reference)s", **values)
        case _:
            words = _("one seed hints that %(claim)s", claim=_hinted(found, arm, arm_name(arm), reference))
    return capitalized(words) if found.complete else words


def _hinted(found: StudyComparison, arm: StudyArm, name: str, reference: str) -> str:
    """What one seed would say."""
    values = {"arm": name, "reference": reference}
    match arm.verdict.hint if arm.verdict else None:
        case VerdictKind.WITHIN:
            return _("%(arm)s is within %(margin)s of %(reference)s", margin=margin_text(found), **values)
        case VerdictKind.BETTER:
            return _("%(arm)s is better than %(reference)s", **values)
        case _:
            return _("%(arm)s is worse than %(reference)s", **values)
