"""The two questions of a study's verdict in words, and why nothing was learned."""

from app.domain.comparison.baselines import BaselineResult, unbeaten, unfinished
from app.domain.comparison.learning.learning import Criterion, Helps
from app.domain.comparison.study import StudyComparison
from app.words.format import capitalized, join_names, percent
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext
from app.words.verdict.needs import needs_label
from app.words.verdict.verdict import arm_name, difference_interval, gap_text, score_text

HELPS = {Helps.YES: marked("yes"), Helps.NO: marked("not shown"), Helps.OPEN: marked("open")}


def learning_headline(study: StudyComparison) -> str:
    """Where the arms' question is not tested: what came of the first one."""
    if study.learning.nothing:
        return _nothing(study)
    strongest = unbeaten(study.baselines)[0]
    values = {"reference": arm_name(study.reference), "baseline": _(strongest.title)}
    if _worse(strongest):
        return _(
            "Fine-tuning does not help: the baseline “%(baseline)s” reaches %(score)s, %(reference)s %(own)s",
            score=_percent(strongest),
            own=percent(study.reference.score.mean if study.reference.score else None),
            **values,
        )
    return _(
        "It is not shown that fine-tuning helps: %(reference)s is not significantly better than the baseline "
        "“%(baseline)s”",
        **values,
    )


def _nothing(study: StudyComparison) -> str:
    """By the criterion that says most."""
    learning, reference = study.learning, study.reference
    name = arm_name(reference)
    if Criterion.ONE_LABEL in learning.criteria:
        alike = [learning.predicted[arm.title] for arm in study.arms if arm.title in learning.predicted]
        own = learning.predicted[reference.title]
        values = {"reference": name, "label": label_name(study, own.label), "share": percent(own.share)}
        if not own.same:
            return _("Nothing was learned: %(reference)s predicts one label for %(share)s of the test items", **values)
        if len(alike) > 1 and all(one.one_label and one.same and one.label == own.label for one in alike):
            return _("Nothing was learned: every arm predicts “%(label)s” for almost all test items", **values)
        return _("Nothing was learned: %(reference)s predicts “%(label)s” for %(share)s of the test items", **values)
    if Criterion.TRIVIAL in learning.criteria:
        trivial = next(baseline for baseline in unbeaten(study.baselines) if baseline.facts.trivial)
        values = {"reference": name, "baseline": _(trivial.title)}
        if trivial.difference and trivial.difference.mean >= 0:
            return _("Nothing was learned: %(reference)s is no better than the baseline “%(baseline)s”", **values)
        return _(
            "It is not shown that anything was learned: %(reference)s is not significantly better than the baseline "
            "“%(baseline)s”",
            **values,
        )
    return _(
        "Nothing was learned: %(reference)s did not improve on the validation split after its first evaluation",
        reference=name,
    )


def learning_lead(study: StudyComparison) -> str:
    """What the headline rests on, and what it means for the other arms."""
    reference, learning = study.reference, study.learning
    parts = [_("%(arm)s reaches %(score)s.", arm=capitalized(arm_name(reference)), score=score_text(reference))]
    if reference.searched:
        parts.append(_("A search chose its configuration: another search could choose another."))
    compared = [baseline for baseline in study.baselines if baseline.difference is not None]
    if compared:
        scores = ", ".join(f"{_(baseline.title)} {_percent(baseline)}" for baseline in compared)
        parts.append(_("Baselines on the same test items: %(scores)s.", scores=scores))
    if Criterion.NO_PROGRESS in learning.criteria:
        parts.append(_progress(study))
    better = [arm for arm in study.others if arm.difference and arm.difference.low > 0]
    for arm in better:
        text = _(
            "%(arm)s is %(by)s above: the reference may be the problem, not the data.",
            arm=capitalized(arm_name(arm)),
            by=gap_text(arm),
        )
        parts.append(text)
    if study.others:
        parts.append(_("Vezna gives no verdict on the other arms."))
    if not study.complete:
        parts.append(_("More runs are queued; this can change."))
    return " ".join(parts)


def learning_consequence(study: StudyComparison) -> str:
    """The same in one sentence, for a page that shows the baselines beside it."""
    reference = study.reference
    name, score = capitalized(arm_name(reference)), score_text(reference)
    if any(arm.difference and arm.difference.low > 0 for arm in study.others):
        return _(
            "%(arm)s reaches %(score)s, less than another arm: it may be the problem, not the data.",
            arm=name,
            score=score,
        )
    if study.others:
        return _("%(arm)s reaches %(score)s, so Vezna gives no verdict on the other arms.", arm=name, score=score)
    return _("%(arm)s reaches %(score)s.", arm=name, score=score)


def _progress(study: StudyComparison) -> str:
    runs = study.learning.validated
    return ngettext(
        "Its run did not improve on the validation split after the first evaluation.",
        "None of its %(num)s runs improved on the validation split after the first evaluation.",
        runs,
    )


def helps_label(study: StudyComparison) -> str:
    """The answer to the first question in a word: `yes`, `no`, `not shown`, `open`; empty without baselines."""
    learning = study.learning
    if learning.nothing or (learning.helps is Helps.NO and _worse(unbeaten(study.baselines)[0])):
        return _("no")
    return _(HELPS[learning.helps]) if learning.helps else ""


def helps_text(study: StudyComparison) -> str:
    """The answer to the first question in a sentence or two."""
    reference = study.reference.title
    compared = [baseline for baseline in study.baselines if baseline.difference is not None]
    parts = []
    if compared:
        gaps = [
            _("%(difference)s points from “%(baseline)s”", difference=_gap(baseline), baseline=_(baseline.title))
            for baseline in compared
        ]
        parts.append(_("%(reference)s differs by %(gaps)s.", reference=reference, gaps=join_names(gaps)))
    waiting = [_(baseline.title) for baseline in unfinished(study.baselines)]
    if study.learning.helps is Helps.OPEN and waiting:
        parts.append(_("Still being computed: %(baselines)s.", baselines=join_names(waiting)))
    elif study.learning.helps is Helps.OPEN:
        parts.append(_("%(reference)s has no result yet.", reference=reference))
    if compared:
        parts.append(_("It must be significantly better than every baseline (intersection-union test)."))
    if study.reference.score and study.reference.score.seeds == 1 and compared:
        parts.append(_("With one seed the intervals cover the test items only."))
    return " ".join(parts)


def enough_text(study: StudyComparison) -> str:
    if study.learning.closed:
        return _("This question needs a yes to the first. The differences in the table support no decision.")
    if study.learning.helps is Helps.OPEN:
        return _("The verdicts stand only if the answer to the first question is yes.")
    text = _("Tested after a yes to the first question, at the same level (fixed sequence).")
    needs = needs_label(study.focus) if study.focus else ""
    return f"{text} {study.focus.title}: {needs}." if study.focus and needs else text


def label_name(study: StudyComparison, label: int) -> str:
    return study.labels[label] if label < len(study.labels) else str(label)


def _worse(baseline: BaselineResult) -> bool:
    """The reference is significantly worse than it."""
    return baseline.difference is not None and baseline.difference.low > 0


def _percent(baseline: BaselineResult) -> str:
    return percent(baseline.score.mean if baseline.score else None)


def _gap(baseline: BaselineResult) -> str:
    """Reference − baseline."""
    assert baseline.difference  # noqa: S101 it was compared
    return difference_interval(baseline.difference.reversed)
