"""What to keep in mind beside a verdict: everything that keeps it from being more than it is."""

from dataclasses import dataclass

from app.domain.comparison.intervals import CONFIDENCE
from app.domain.comparison.study import StudyComparison
from app.domain.comparison.verdict import VerdictKind
from app.domain.runs.status import RunStatus
from app.web.format import confidence, join_names
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.arms import condition
from app.web.text.failures import failure_label
from app.web.text.lead import can_show


@dataclass(frozen=True)
class Caveat:
    """A remark, and where on the page more is said of it."""

    text: str
    anchor: str = ""


def caveats(found: StudyComparison) -> tuple[Caveat, ...]:
    """The gravest first."""
    done = [run for run in found.runs if run.status is RunStatus.SUCCEEDED]
    if not done:
        return ()
    remarks = [
        _partial(found),
        _seeds(found),
        _looks(found),
        *_failed(found),
        _stopped(found),
        _resolution(found),
        *_tuning(found),
        _times(found),
        _memory(found),
        _conditions(found),
    ]
    return tuple(remark for remark in remarks if remark is not None)


def _partial(found: StudyComparison) -> Caveat | None:
    if found.complete:
        return None
    done, total = found.done, found.total
    text = ngettext(
        "partial: %(done)s of %(num)s run has ended", "partial: %(done)s of %(num)s runs have ended", total, done=done
    )
    return Caveat(text, "progress")


def _seeds(found: StudyComparison) -> Caveat | None:
    single = [arm.title for arm in found.arms if arm.score is not None and arm.score.seeds == 1]
    if not single:
        return None
    text = _("one seed of %(arms)s: what another seed would change is unknown", arms=join_names(single))
    return Caveat(text, "arms")


def _looks(found: StudyComparison) -> Caveat | None:
    if not found.interim_looks:
        return None
    text = ngettext(
        "seeds were added once after results had been seen: verdicts are held to %(held)s instead of %(usual)s",
        "seeds were added %(num)s times after results had been seen: verdicts are held to %(held)s instead of "
        "%(usual)s",
        found.interim_looks,
        held=confidence(found.confidence),
        usual=confidence(CONFIDENCE),
    )
    return Caveat(text, "arms")


def _failed(found: StudyComparison) -> list[Caveat]:
    remarks = []
    failed = sum(run.status is RunStatus.FAILED for run in found.runs)
    if failed:
        reasons = ", ".join(failure_label(failure) for failure, _n in found.failures)
        text = ngettext("%(num)s run failed (%(why)s)", "%(num)s runs failed (%(why)s)", failed, why=reasons)
        remarks.append(Caveat(text, "arms"))
    cancelled = sum(run.status is RunStatus.CANCELLED for run in found.runs)
    if cancelled:
        remarks.append(Caveat(ngettext("%(num)s run was cancelled", "%(num)s runs were cancelled", cancelled), "arms"))
    return remarks


def _tuning(found: StudyComparison) -> list[Caveat]:
    """Whether rates were looked for; where the best may lie elsewhere; arms that found none, or were stopped."""
    if not found.spec.tuning.rounds:
        return [Caveat(_("learning rates were not tuned"), "conditions")]
    at_edge = [arm.title for arm in found.arms if arm.tuning and arm.tuning.edge]
    lost = [arm.title for arm in found.arms if arm.tuning and arm.tuning.hopeless]
    remarks = []
    if at_edge:
        text = _(
            "the best rate of %(arms)s is at the end of those tried: a better one may lie beyond",
            arms=join_names(at_edge),
        )
        remarks.append(Caveat(text, "tuning"))
    if lost:
        text = _("%(arms)s: no learning rate that was tried could be trained", arms=join_names(lost))
        remarks.append(Caveat(text, "tuning"))
    return remarks


def _stopped(found: StudyComparison) -> Caveat | None:
    stopped = [arm.title for arm in found.arms if arm.stopped]
    return Caveat(_("%(arms)s: stopped before the end", arms=join_names(stopped)), "arms") if stopped else None


def _resolution(found: StudyComparison) -> Caveat | None:
    """Said where the study cannot show a difference as small as its margin, and an arm has no interval over seeds yet,
    which would say it better."""
    waits = any(arm.verdict_kind in (VerdictKind.NONE, VerdictKind.HINT) for arm in found.others)
    if (
        not waits
        or found.detectable_difference is None
        or found.detectable_difference * 100 <= found.spec.margin_points
    ):
        return None
    return Caveat(can_show(found))


def _times(found: StudyComparison) -> Caveat | None:
    if len([a for a in found.arms if a.costs]) < 2:
        return None
    if found.times_comparable:
        return Caveat(_("one device, no other run of the study on it"))
    if found.runs_overlapped:
        return Caveat(_("times do not compare: runs stood side by side on one worker"), "time")
    return Caveat(_("times do not compare: the runs were not all on one worker with the same settings"), "time")


def _memory(found: StudyComparison) -> Caveat | None:
    if found.memory_comparable:
        return None
    return Caveat(_("memory does not compare: devices or precision differed"), "conditions")


def _conditions(found: StudyComparison) -> Caveat | None:
    if len([a for a in found.arms if a.costs]) < 2:
        return None
    differing = [condition(c.name) for c in found.conditions if not c.equal]
    if differing:
        return Caveat(_("what differed: %(names)s", names=", ".join(differing)), "conditions")
    return Caveat(_("nothing differed but the method and its learning rate"), "conditions")
