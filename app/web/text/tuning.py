"""How learning rates are tuned, in words."""

from collections.abc import Sequence

from app.domain.comparison.study import StudyArm
from app.domain.runs.status import RunStatus
from app.domain.studies.arm_tuning import Rival
from app.domain.studies.tuning import GridTuning, HalvingTuning, Trial, TuningSpec
from app.web.format import decimal, rate
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext
from app.web.text.failures import failure_label

TUNINGS = {
    "none": marked("not tuned"),
    "grid": marked("grid search"),
    "halving": marked("successive halving"),
}
HINTS = {
    "none": marked("Every arm has one rate. The verdict holds for these rates only, and says so."),
    "grid": marked("Every rate trains as long as a run and is judged on the validation split."),
    "halving": marked("Many rates train briefly, the best ones longer; they are judged on the validation split."),
}
STATES = {
    RunStatus.QUEUED: marked("queued"),
    RunStatus.RUNNING: marked("running"),
    RunStatus.CANCELLED: marked("cancelled"),
}
EDGES = {
    "smallest": marked("The best rate is the smallest tried: a better rate may lie below it."),
    "largest": marked("The best rate is the largest tried: a better rate may lie above it."),
}
FURTHER = "further"
"""In an address: arms whose best rate is at an end of those tried will try rates around it."""


def options() -> list[tuple[str, str]]:
    """The kinds of tuning with their titles."""
    return [(kind, _(title)) for kind, title in TUNINGS.items()]


def tuning_hint(kind: str) -> str:
    """What a kind of tuning does."""
    return _(HINTS[kind])


def rounds(tuning: TuningSpec) -> str:
    """`3 rates per arm`, `6 rates for 33 % of the budget, then 2 for all of it`; empty without tuning."""
    match tuning:
        case HalvingTuning():
            parts = [
                _("%(rates)s rates for %(share)s of the budget", rates=r.rates, share=f"{decimal(100 * r.share, 0)} %")
                for r in tuning.rounds[:-1]
            ]
            return ", ".join([*parts, _("then %(rates)s for all of it", rates=tuning.rounds[-1].rates)])
        case GridTuning():
            return _("%(rates)s rates per arm", rates=tuning.rates)
        case _:
            return ""


def rate_list(rates: Sequence[float]) -> str:
    """Rates as they are typed into a form: `0.001, 0.002`."""
    return ", ".join(map(rate, rates))


def trial_text(trial: Trial) -> str:
    """`run 12`, and its failure or state where it has no result."""
    run = _("run %(id)s", id=trial.run_id)
    if trial.failure:
        return _("%(run)s: %(why)s", run=run, why=failure_label(trial.failure))
    return _("%(run)s: %(why)s", run=run, why=_(STATES[trial.status])) if trial.status in STATES else run


def tuning_remark(arm: StudyArm) -> str:
    """How far an arm's rate can be trusted, or why it has none; empty where there is nothing to say."""
    if arm.untrainable:
        return _("Every trial of a round failed, so the arm has no runs.")
    if arm.stopped and not arm.runs:
        return _("The arm was stopped before a rate was chosen.")
    rival, edge = (arm.tuning.rival, arm.tuning.edge) if arm.tuning else (None, None)
    return " ".join([*([_close(rival)] if rival else []), *([_(EDGES[edge])] if edge else [])])


def _close(rival: Rival) -> str:
    by = _("as good") if not rival.behind else _("%(by)s points behind", by=decimal(rival.behind * 100))
    return ngettext(
        "%(rate)s is %(by)s: with %(num)s validation item, up to %(within)s points are chance.",
        "%(rate)s is %(by)s: with %(num)s validation items, up to %(within)s points are chance.",
        rival.items,
        rate=rate(rival.rate),
        by=by,
        within=decimal(rival.within * 100),
    )


FILTERS = (rounds, tuning_hint, rate_list, trial_text, tuning_remark)
