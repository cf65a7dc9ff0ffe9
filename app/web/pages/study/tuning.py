"""The section of a study's page on its learning rates: those tried, what each reached, and the one that was taken."""

from dataclasses import dataclass

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.methods import Family
from app.domain.runs.status import RunStatus
from app.domain.studies.arm_tuning import Rival
from app.domain.studies.tuning import Trial, Tried
from app.domain.tasks import generates
from app.web.figures.figure import Drawn
from app.web.figures.tuning import last_tried
from app.web.format import NOTHING, decimal, hundred, join_names, rate
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext
from app.web.text.failures import failure_label
from app.web.text.metrics import heading
from app.web.text.tuning import FURTHER, rate_list, rounds
from app.web.text.verdict import arm_name

STATES = {
    RunStatus.QUEUED: marked("queued"),
    RunStatus.RUNNING: marked("running"),
    RunStatus.CANCELLED: marked("cancelled"),
}
EDGES = {
    "smallest": marked("The best rate is the smallest tried: a better rate may lie below it."),
    "largest": marked("The best rate is the largest tried: a better rate may lie above it."),
}


@dataclass(frozen=True)
class TrialLink:
    """A trial, and its state where it has no result."""

    id: int
    words: str
    bad: bool


@dataclass(frozen=True)
class RateRow:
    """A rate in a round."""

    rate: str
    round: int
    """From 1."""
    score: str
    loss: str
    chosen: bool
    trials: tuple[TrialLink, ...]


@dataclass(frozen=True)
class TunedArm:
    """An arm's rates."""

    title: str
    family: Family
    hollow: int
    rows: tuple[RateRow, ...]
    remark: str
    """What one should know of its choice; empty where there is nothing."""


@dataclass(frozen=True)
class FurtherRates:
    """The study again, with other rates for the arms whose best one is at an end of those tried."""

    why: str
    """A sentence."""
    words: str
    """Of the link."""
    href: str
    rows: tuple[str, ...]
    """What each of them would try: `LoRA r=8: 2e-3, 6e-3, 0.018`."""

    @classmethod
    def of(cls, study_id: int, found: StudyComparison) -> "FurtherRates | None":
        """None where no arm has such a rate."""
        arms = [arm for arm in found.arms if arm.tuning and arm.tuning.further]
        if not arms:
            return None
        names = join_names([arm_name(arm) for arm in arms])
        return cls(
            why=ngettext(
                "The best rate of %(arms)s is at the edge of the rates tried: a better rate may lie beyond.",
                "The best rates of %(arms)s are at the edge of the rates tried: better rates may lie beyond.",
                len(arms),
                arms=names,
            ),
            words=_("Repeat with rates around the best of %(arms)s", arms=names),
            href=f"/studies/new?from_study={study_id}&rates={FURTHER}",
            rows=tuple(f"{arm.title}: {rate_list(arm.tuning.further)}" for arm in arms if arm.tuning),
        )


@dataclass(frozen=True)
class StudyTuning:
    """What was tried."""

    how: str
    figure: Drawn
    measure: str
    """At the head of the scores; the loss has a column of its own."""
    unit: str
    rounds: int
    arms: tuple[TunedArm, ...]
    further: FurtherRates | None

    @classmethod
    def of(cls, study_id: int, found: StudyComparison, figure: Drawn) -> "StudyTuning | None":
        """From a comparison; None where no rate was looked for."""
        if not found.spec.tuning.rounds:
            return None
        return cls(
            how=_how(found),
            figure=figure,
            measure=heading(found.metric),
            unit=_("not on validation") if generates(found.metric) else f"%, {_('validation')}",
            rounds=len(found.spec.tuning.rounds),
            arms=tuple(_arm(arm) for arm in found.arms),
            further=FurtherRates.of(study_id, found) if found.complete else None,
        )


def _how(found: StudyComparison) -> str:
    tuning = found.spec.tuning
    seeds = ngettext("%(num)s seed", "%(num)s seeds", tuning.seeds)
    return _(
        "%(rounds)s, %(seeds)s a rate, the same for every arm. Trials are judged on the validation split and never "
        "read the test split. The runs that count are all new, and the verdict is about the arms at the rates taken.",
        rounds=rounds(tuning),
        seeds=seeds,
    )


def _arm(arm: StudyArm) -> TunedArm:
    tried = arm.tuning.tried if arm.tuning else []
    return TunedArm(arm.title, arm.family, arm.hollow, tuple(_row(arm, one) for one in tried), _remark(arm))


def _row(arm: StudyArm, one: Tried) -> RateRow:
    chosen = arm.tuning is not None and one.rate == arm.tuning.chosen and one in last_tried(arm)
    return RateRow(
        rate=rate(one.rate),
        round=one.round + 1,
        score=hundred(one.score) if one.score is not None else NOTHING,
        loss=decimal(one.loss, 3) if one.loss is not None else NOTHING,
        chosen=chosen,
        trials=tuple(_link(trial) for trial in one.trials),
    )


def _link(trial: Trial) -> TrialLink:
    run = _("run %(id)s", id=trial.run_id)
    if trial.failure:
        return TrialLink(trial.run_id, _("%(run)s: %(why)s", run=run, why=failure_label(trial.failure)), True)
    if trial.status in STATES:
        words = _("%(run)s: %(why)s", run=run, why=_(STATES[trial.status]))
        return TrialLink(trial.run_id, words, trial.status is RunStatus.CANCELLED)
    return TrialLink(trial.run_id, run, False)


def _remark(arm: StudyArm) -> str:
    if arm.tuning and arm.tuning.hopeless:
        return _("No rate that was tried could be trained, so the arm has no runs.")
    if arm.stopped and not arm.runs:
        return _("The arm was stopped before it had a rate.")
    remarks = []
    if arm.tuning and (rival := arm.tuning.rival):
        remarks.append(_near(rival))
    if arm.tuning and arm.tuning.edge:
        remarks.append(_(EDGES[arm.tuning.edge]))
    return " ".join(remarks)


def _near(rival: Rival) -> str:
    by = _("as good") if not rival.behind else _("%(by)s points behind", by=decimal(rival.behind * 100))
    return ngettext(
        "%(rate)s is %(by)s: with %(num)s validation item up to %(within)s points are chance.",
        "%(rate)s is %(by)s: with %(num)s validation items up to %(within)s points are chance.",
        rival.items,
        rate=rate(rival.rate),
        by=by,
        within=decimal(rival.within * 100),
    )
