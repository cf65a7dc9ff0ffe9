"""What a comparison comes to: one phrase for a list, one sentence for the head of a page, one for a mail or a slide."""

from collections import Counter
from collections.abc import Sequence

from app.domain.comparison.model import AnyComparison
from app.domain.comparison.runs import RunComparison
from app.domain.comparison.statistics.intervals import CONFIDENCE
from app.domain.comparison.statistics.verdict import Basis, VerdictKind
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.runs.status import RunStatus
from app.words.format import capitalized, confidence, join_names
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext
from app.words.runs.failures import failure_label
from app.words.runs.metrics import few_groups, items_in_groups, title
from app.words.verdict.confounders import name_arms
from app.words.verdict.lead import how_to_decide, savings
from app.words.verdict.learning import learning_headline, learning_lead
from app.words.verdict.verdict import (
    arm_name,
    gap_text,
    interval_level,
    score_text,
    sentence_with_difference,
    verdict_sentence,
)

COUNTED = {
    VerdictKind.BETTER: marked("better"),
    VerdictKind.ENOUGH: marked("enough"),
    VerdictKind.WITHIN: marked("within the margin"),
    VerdictKind.WORSE: marked("worse"),
    VerdictKind.UNDECIDED: marked("undecided"),
    VerdictKind.HINT: marked("hint"),
    VerdictKind.NONE: marked("without a verdict"),
}
SEVERAL = COUNTED | {VerdictKind.HINT: marked("hints")}


def phrase(study: StudyComparison) -> str:
    """For a row of a list: `LoRA r=8 is enough: it loses less than 2 points against full fine-tuning`."""
    if study.complete:
        return verdict_sentence(study, study.focus) if study.focus else headline(study)
    return _under_way(study)


def headline(study: StudyComparison) -> str:
    """The first heading of a study's page."""
    if study.learning.closed:
        text = learning_headline(study)
        return text if study.complete else _("So far: %(finding)s", finding=text)
    arm = study.focus
    if arm is not None:
        return _so_far(study, arm, verdict_sentence(study, arm))
    if not study.complete:
        return _under_way(study)
    if not any(run.status is RunStatus.SUCCEEDED for run in study.runs):
        return _all_failed(study)
    if not study.others:
        score = score_text(study.reference)
        return capitalized(_("%(arm)s reaches %(score)s", arm=arm_name(study.reference), score=score))
    return _("No verdict: %(why)s", why=_missing(study))


def _so_far(study: StudyComparison, arm: StudyArm, sentence: str) -> str:
    """The sentence about the arm of the headline; where all arms are worse, about all of them."""
    if len(study.others) > 1 and all(other.verdict_kind is VerdictKind.WORSE for other in study.others):
        values = {"arm": arm_name(arm), "reference": arm_name(study.reference), "by": gap_text(arm)}
        if any(other.searched for other in study.others):
            sentence = _(
                "no arm reaches %(reference)s at the configurations that the searches chose: %(arm)s comes closest, "
                "%(by)s below",
                **values,
            )
        else:
            sentence = _("no arm reaches %(reference)s: %(arm)s comes closest, %(by)s below", **values)
    return capitalized(sentence) if study.complete else _("So far, %(verdict)s", verdict=sentence)


def _under_way(study: StudyComparison) -> str:
    done, total = study.done, study.total
    if all(status is RunStatus.QUEUED for status in study.statuses):
        return ngettext("Queued: %(num)s run waits", "Queued: %(num)s runs wait", total)
    return ngettext("Running: %(done)s of %(num)s run done", "Running: %(done)s of %(num)s runs done", total, done=done)


def _missing(study: StudyComparison) -> str:
    if study.reference.score is None:
        return _("the reference %(arm)s has no result", arm=study.reference.title)
    return _("only the reference %(arm)s has a result", arm=study.reference.title)


def _all_failed(study: StudyComparison) -> str:
    if not study.failures:
        return _("Cancelled before a run had ended")
    (failure, times), total = study.failures[0], study.total
    why = failure_label(failure)
    if times == total:
        return ngettext("The run failed: %(why)s", "All %(num)s runs failed: %(why)s", total, why=why)
    return _("No run succeeded: %(why)s, %(times)s of %(total)s", why=why, times=times, total=total)


def summary(study: StudyComparison) -> str:
    """One sentence to quote: the verdict, its interval and what the arm needs; then what would decide, and failures.

    LoRA r=8 is enough: it loses less than 2 points against full fine-tuning: −0.2 ± 0.7 points; it needs 37 % of the
    memory, 52 % of the train time and a file 300 times smaller.
    """
    arm, text = study.focus, headline(study)
    if arm is not None:
        text = _so_far(study, arm, sentence_with_difference(study, arm))
        if needs := savings(study, arm):
            text = _("%(verdict)s; it needs %(needs)s", verdict=text, needs=needs)
    parts = [f"{text}.", how_to_decide(study, arm) if arm else ""]
    if study.learning.closed:
        parts.append(learning_lead(study))
    failed = sum(times for _failure, times in study.failures)
    if failed and any(run.result for run in study.runs):
        reasons = ", ".join(dict.fromkeys(failure_label(failure) for failure, _times in study.failures))
        parts.append(ngettext("%(num)s run failed: %(why)s.", "%(num)s runs failed: %(why)s.", failed, why=reasons))
    return " ".join(part for part in parts if part)


def runs_headline(comparison: RunComparison) -> str:
    """The first heading of a comparison of any runs."""
    others, reference = comparison.others, comparison.reference.title
    if not others:
        return _("%(arm)s alone: nothing to compare it with", arm=reference)
    if len(others) == 1:
        return capitalized(sentence_with_difference(comparison, others[0]))
    counted = Counter(arm.verdict_kind for arm in others)
    counts = [
        _("%(n)s %(word)s", n=counted[kind], word=_((COUNTED if counted[kind] == 1 else SEVERAL)[kind]))
        for kind in COUNTED
        if counted[kind]
    ]
    values = {"n": len(others), "reference": reference, "counts": join_names(counts)}
    return _("%(n)s arms compared with %(reference)s: %(counts)s", **values)


def runs_lead(comparison: RunComparison) -> str:
    """What the verdicts of any runs rest on."""
    metric = capitalized(title(comparison.metric))
    parts = []
    for basis in Basis:
        arm = next((arm for arm in comparison.others if arm.verdict and arm.verdict.basis is basis), None)
        if arm is None or arm.difference is None:
            continue
        groups = comparison.clusters if basis is Basis.ITEMS else None
        items = items_in_groups(arm.difference.items, groups, comparison.metric)
        if basis is Basis.ITEMS:
            parts.append(_("%(metric)s, paired over the same %(items)s.", metric=metric, items=items))
            if groups and (few := few_groups(groups)):
                parts.append(f"{capitalized(few)}.")
        else:
            text = _(
                "%(metric)s of the same %(items)s without per-item scores: the interval treats the items of "
                "two results as independent (Newcombe 1998), which makes it wide, and it covers the items only. It "
                "ranks nothing.",
                metric=metric,
                items=items,
            )
            parts.append(text)
    if len(comparison.judged) > 1:
        parts.append(f"{capitalized(interval_level(comparison))}.")
    if comparison.judged and (searched := [arm_name(arm) for arm in comparison.arms if arm.searched]):
        text = _(
            "Searches chose the configurations of %(arms)s, and the verdicts are about these: another search could "
            "choose others.",
            arms=name_arms(searched),
        )
        parts.append(text)
    if comparison.judged and (looks := raised_confidence(comparison)):
        parts.append(looks)
    return " ".join(parts)


def raised_confidence(comparison: AnyComparison) -> str:
    """That interim looks raised the confidence; empty where they did not."""
    usual = confidence(CONFIDENCE)
    if comparison.confidence <= CONFIDENCE:
        return ""
    return _(
        "Verdicts have %(level)s confidence instead of %(usual)s: seeds or arms were added, or planned runs cancelled, "
        "after results were visible.",
        level=confidence(comparison.confidence),
        usual=usual,
    )


def missing_text(missing: Sequence[int]) -> str:
    """Which of the selected runs do not exist."""
    numbers = ", ".join(map(str, missing[:10]))
    return ngettext("There is no run %(numbers)s.", "There are no runs %(numbers)s.", len(missing), numbers=numbers)


FILTERS = (headline, summary, runs_headline, runs_lead, missing_text)
