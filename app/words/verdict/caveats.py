"""Caveats of a study's verdict as chips, the gravest first: a label of a few words, and the sentence that it opens."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.domain.comparison.baselines import strongest, unfinished
from app.domain.comparison.fairness.confounders import CONDITIONS, ConfounderKind
from app.domain.comparison.learning.learning import Helps
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.comparison.study import StudyComparison
from app.domain.runs.status import RunStatus
from app.words.format import capitalized, confidence, count, join_names
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs.failures import failure_label
from app.words.runs.metrics import few_groups
from app.words.studies.arms import condition_label
from app.words.studies.tuning import parameter_label, trial_of, varied
from app.words.verdict.attention import attention_arms, attention_text
from app.words.verdict.confounders import confounder_text, name_arms, what_differs
from app.words.verdict.headline import raised_confidence
from app.words.verdict.lead import detectable_text
from app.words.verdict.learning import helps_text
from app.words.verdict.verdict import arm_name

TABS = {
    ConfounderKind.ONE_SEED: "arms",
    ConfounderKind.OVERLAP: "costs",
    ConfounderKind.SHARED_HOST: "costs",
    ConfounderKind.WORKER: "costs",
}
"""The tab of the page that says more of a confounder; of others the conditions."""


@dataclass(frozen=True)
class Caveat:
    text: str
    """A part of a sentence, without a full stop."""
    label: str
    """The same in a few words."""
    tab: str = ""
    """The tab that says more; empty where none does."""
    limits: bool = True
    """It limits the verdict; else it supports it."""
    name: str = ""
    """By which a page knows it, where it adds a link."""


def caveats(study: StudyComparison) -> tuple[Caveat, ...]:
    """What limits the verdict; nothing before a run has succeeded."""
    if not any(run.status is RunStatus.SUCCEEDED for run in study.runs):
        return ()
    return (
        *_clusters(study),
        *_scope(study),
        *_baselines(study),
        *_progress(study),
        *_failures(study),
        *_confounders(study),
        *_tuning(study),
        *_conditions(study),
        *_attention(study),
    )


def remarks(study: StudyComparison) -> tuple[Caveat, ...]:
    """What supports the verdict before what limits it."""
    found = [*_helps(study), *caveats(study)]
    return (*(one for one in found if not one.limits), *(one for one in found if one.limits))


def _helps(study: StudyComparison) -> Iterator[Caveat]:
    """The answer to the first question, where it is yes."""
    if study.learning.helps is Helps.YES and not study.learning.closed and strongest(study.baselines):
        yield Caveat(helps_text(study).rstrip("."), _("Fine-tuning helps"), limits=False)


def _clusters(study: StudyComparison) -> Iterator[Caveat]:
    """That items of one input or group count as one, and that few are left."""
    if not study.clusters:
        return
    text = _(
        "%(items)s test items in %(groups)s groups, by equal inputs or the dataset's groups: the intervals treat each "
        "as one cluster, and estimates of more test items assume groups as large",
        items=count(study.items or 0),
        groups=count(study.clusters),
    )
    yield Caveat(text, _("Grouped test items"), "conditions")
    if few := few_groups(study.clusters):
        yield Caveat(few, _("Few groups"), "conditions")


def _scope(study: StudyComparison) -> Iterator[Caveat]:
    """After a search: that the verdict is about the configurations that it chose, with their rivals."""
    if not any(arm.searched and arm.score for arm in study.others):
        return
    text = _("the verdict is about the configurations that the searches chose: another search could choose others")
    rivals = [
        _("%(configuration)s for %(arm)s", configuration=trial_of(arm.tuning.rival.configuration), arm=arm_name(arm))
        for arm in study.arms
        if arm.tuning and arm.tuning.rival
    ]
    if rivals:
        text = _(
            "%(text)s, such as %(rivals)s, which the validation split cannot distinguish from the choice",
            text=text,
            rivals=name_arms(rivals),
        )
    yield Caveat(text, _("Chosen by searches"), "conditions")


def _baselines(study: StudyComparison) -> Iterator[Caveat]:
    """Verdicts that stand only if baselines still being computed are beaten too."""
    if study.learning.helps is Helps.OPEN and not study.learning.closed:
        waiting = [_(baseline.title) for baseline in unfinished(study.baselines)]
        if waiting:
            text = _("baselines still being computed: %(names)s", names=join_names(waiting))
            yield Caveat(text, _("Baselines not ready"), "arms")


def _progress(study: StudyComparison) -> Iterator[Caveat]:
    if not study.complete:
        text = ngettext(
            "partial: %(done)s of %(num)s run has ended",
            "partial: %(done)s of %(num)s runs have ended",
            study.total,
            done=study.done,
        )
        yield Caveat(text, _("Partial results"))
    if study.interim_looks:
        label = _("%(level)s confidence", level=confidence(study.confidence))
        yield Caveat(raised_confidence(study).rstrip("."), label)


def _failures(study: StudyComparison) -> Iterator[Caveat]:
    failed = sum(run.status is RunStatus.FAILED for run in study.runs)
    if failed:
        reasons = ", ".join(failure_label(failure) for failure, _n in study.failures)
        text = ngettext("%(num)s run failed (%(why)s)", "%(num)s runs failed (%(why)s)", failed, why=reasons)
        yield Caveat(text, ngettext("%(num)s run failed", "%(num)s runs failed", failed), "arms")
    if cancelled := sum(run.status is RunStatus.CANCELLED for run in study.runs):
        text = ngettext("%(num)s run was cancelled", "%(num)s runs were cancelled", cancelled)
        yield Caveat(text, ngettext("%(num)s run cancelled", "%(num)s runs cancelled", cancelled), "arms")
    if stopped := [arm.title for arm in study.arms if arm.stopped]:
        yield Caveat(_("%(arms)s: stopped before the end", arms=join_names(stopped)), _("Arms stopped"), "arms")


def _confounders(study: StudyComparison) -> Iterator[Caveat]:
    for confounder in study.confounders:
        label, tab = capitalized(what_differs(confounder, study)), TABS.get(confounder.kind, "conditions")
        yield Caveat(confounder_text(confounder, study), label, tab, name=confounder.kind.name.lower())
    # An arm with an interval over seeds says better itself what the study cannot detect.
    waits = any(arm.verdict_kind in (VerdictKind.NONE, VerdictKind.HINT) for arm in study.others)
    if waits and study.detectable_difference is not None and study.detectable_difference > study.margin:
        yield Caveat(detectable_text(study), _("Small study"))


def _tuning(study: StudyComparison) -> Iterator[Caveat]:
    for name in varied(study):
        if at_edge := [arm.title for arm in study.arms if arm.tuning and name in arm.tuning.edges]:
            text = _(
                "the best %(name)s of %(arms)s is at the edge of the values tried: a better value may lie beyond",
                name=parameter_label(name),
                arms=join_names(at_edge),
            )
            yield Caveat(text, _("Best value at the edge"), "conditions")
    if untrainable := [arm.title for arm in study.arms if arm.untrainable]:
        text = _("%(arms)s: every trial of a round failed", arms=join_names(untrainable))
        yield Caveat(text, _("Trials failed"), "conditions")


def _conditions(study: StudyComparison) -> Iterator[Caveat]:
    """What differed beside the confounders; or that nothing did."""
    if len([arm for arm in study.arms if arm.costs]) < 2:
        return
    named = {name for confounder in study.confounders for name in CONDITIONS.get(confounder.kind, ())}
    differing = [condition.name for condition in study.conditions if not condition.equal]
    if others := [condition_label(name) for name in differing if name not in named]:
        text = _("also different: %(names)s", names=", ".join(others))
        yield Caveat(text, _("Other settings differ"), "conditions")
    if not differing:
        text = _("only the method and its learning rate differ")
        yield Caveat(text, _("Same conditions"), "conditions", limits=False)
    if study.times_comparable:
        yield Caveat(_("all runs ran alone on one device"), _("One device, alone"), limits=False)


def _attention(study: StudyComparison) -> Iterator[Caveat]:
    for arm in attention_arms(study):
        yield Caveat(attention_text(study, arm), _("Attention-only LoRA"), "arms", name="attention_only")


FILTERS = (remarks,)
