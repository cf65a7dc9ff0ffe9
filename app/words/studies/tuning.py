"""How hyperparameters are searched, in words."""

from collections.abc import Mapping

from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.runs.status import RunStatus
from app.domain.runs.together import TrainTogether
from app.domain.studies.budget_checks import unchecked_arms
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.arm_tuning import ArmTuning, Rival
from app.domain.studies.tuning.search_space import Configuration, DimensionSpec, Parameter, SearchSpace, bounds
from app.domain.studies.tuning.trials import Trial
from app.domain.studies.tuning.tuning import BudgetUnit, GridTuning, HalvingTuning, RandomTuning, TpeTuning
from app.words.format import NOTHING, capitalized, count, decimal, duration, join_names, rate, separator, typed
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext
from app.words.runs.failures import failure_label

TUNINGS = {
    "none": marked("not tuned"),
    "grid": marked("grid search"),
    "random": marked("random search"),
    "halving": marked("successive halving"),
    "tpe": marked("TPE (Optuna)"),
}
HINTS = {
    "none": marked("Every arm has one configuration. The verdict is about these only, and its caveats say so."),
    "grid": marked("Every combination trains as long as a run and is judged on the validation split."),
    "random": marked("Configurations drawn at random train as long as a run; judged on the validation split."),
    "halving": marked("Many configurations train briefly, the best ones longer; judged on the validation split."),
    "tpe": marked("A sampler suggests each configuration from the results so far; judged on the validation split."),
}
PARAMETERS: dict[Parameter, str] = {
    "learning_rate": marked("learning rate"),
    "batch_size": marked("batch size"),
    "r": marked("rank"),
    "lora_alpha": marked("alpha"),
    "num_train_epochs": marked("epochs"),
    "max_steps": marked("max steps"),
    "weight_decay": marked("weight decay"),
    "warmup_steps": marked("warmup steps"),
}
TRAIN_TOGETHER: dict[TrainTogether, str] = {
    "none": marked("each run alone"),
    "trials": marked("LoRA trials"),
    "trials_and_seeds": marked("LoRA trials, and seeds after the first"),
}
WHOLE_NUMBERS: tuple[Parameter, ...] = ("batch_size", "r", "lora_alpha", "max_steps")
STATES = {
    RunStatus.QUEUED: marked("queued"),
    RunStatus.RUNNING: marked("running"),
    RunStatus.CANCELLED: marked("cancelled"),
}
EDGES = {
    "smallest": marked("The best %(name)s is the smallest tried: a better value may lie below it."),
    "largest": marked("The best %(name)s is the largest tried: a better value may lie above it."),
}
FURTHER = "further"
"""In an address: arms whose best learning rate is at an end of those tried will try rates around it."""


def together_options() -> list[tuple[str, str]]:
    """Which runs may train together, with titles."""
    return [(name, _(title)) for name, title in TRAIN_TOGETHER.items()]


def together_text(which: TrainTogether) -> str:
    """What may train together, and what that leaves out, within the conditions of a study."""
    return _(
        "%(runs)s of an arm may, on one frozen base model; their shared time and memory enter no comparison",
        runs=_(TRAIN_TOGETHER[which]),
    )


def options() -> list[tuple[str, str]]:
    """The kinds of tuning with their titles."""
    return [(kind, _(title)) for kind, title in TUNINGS.items()]


def tuning_title(kind: str) -> str:
    """`grid search`."""
    return _(TUNINGS[kind])


def tuning_hint(kind: str) -> str:
    return _(HINTS[kind])


def parameter_label(name: Parameter) -> str:
    return _(PARAMETERS[name])


def unchecked_budget(study: StudySpec, train_seconds: Mapping[str, float]) -> str:
    """Which arms a budget of seconds is not checked against, and why; empty if there are none."""
    arms = unchecked_arms(study, train_seconds)
    if not arms:
        return ""
    if study.training.early_stopping_patience is not None:
        return _("Not checked: early stopping may end a trial after any evaluation. At least one per arm runs.")
    if len(arms) == len(study.arms):
        return _("Not checked: no estimate says how long a trial takes. At least one per arm runs.")
    return _(
        "Not checked for %(arms)s: no estimate says how long a trial takes. At least one per arm runs.",
        arms=join_names(arms),
    )


def rounds(study: StudySpec) -> str:
    """`3 rates per arm`, `6 configurations for 33 % of the budget, then 2 for all of it`, `12 trials per arm`; empty
    without tuning."""
    tuning = study.tuning
    match tuning:
        case HalvingTuning():
            *shorter, last = tuning.rounds
            parts = [
                _(
                    "%(rates)s configurations for %(share)s of the budget",
                    rates=r.rates,
                    share=f"{decimal(100 * r.share, 0)} %",
                )
                for r in shorter
            ]
            return ", ".join([*parts, _("then %(rates)s for all of it", rates=last.rates)])
        case GridTuning():
            spaces = [study.space(arm) for arm in study.arms]
            size = max(space.grid_size(tuning.rates) for space in spaces)
            if all(space.only_rates for space in spaces):
                return _("%(rates)s rates per arm", rates=size)
            return _("%(size)s configurations per arm", size=size)
        case RandomTuning() | TpeTuning():
            return _("%(amount)s per arm", amount=amount(tuning.unit, tuning.budget))
        case _:
            return ""


def amount(unit: BudgetUnit, value: float) -> str:
    """Amount of a budget: `12 trials`, `2,000,000 tokens`, `10 min of device time`."""
    match unit:
        case "trials":
            return ngettext("%(num)s trial", "%(num)s trials", int(value))
        case "tokens":
            return _("%(count)s tokens", count=count(round(value)))
        case "seconds":
            return _("%(time)s of device time", time=duration(value))


def used_text(tuning: ArmTuning) -> str:
    """What an arm used of its budget: `12 of 12 trials; 48,000 tokens, 3 min of device time`."""
    used = duration(tuning.used) if tuning.unit == "seconds" else count(round(tuning.used))
    parts: dict[BudgetUnit, float] = {
        "trials": len(tuning.trials),
        "tokens": tuning.tokens,
        "seconds": tuning.seconds,
    }
    if any(trial.shared for trial in tuning.trials):
        del parts["seconds"]  # of the groups in which they trained
    others = ", ".join(amount(unit, value) for unit, value in parts.items() if unit != tuning.unit)
    return _("%(used)s of %(budget)s; %(others)s", used=used, budget=amount(tuning.unit, tuning.budget), others=others)


def value_text(name: Parameter, value: float | None) -> str:
    """A value of a hyperparameter: `0.001`, `32`."""
    if value is None:
        return NOTHING
    return count(int(value)) if name in WHOLE_NUMBERS else rate(value)


def dimension_text(dimension: DimensionSpec) -> str:
    """A dimension as it is typed into a form: `0.001, 0.002`, `1e-4 to 0.01`, `1 to 10 log`."""
    if dimension.values is not None:
        return ", ".join(map(typed, dimension.values))
    low, high = bounds(dimension)
    scale = {None: "", True: " log", False: " linear"}[dimension.log]
    return f"{typed(low)} to {typed(high)}{scale}"


def space_text(space: SearchSpace) -> str:
    """`learning rate 1e-4 to 0.01; rank 4, 8, 16`."""
    return "; ".join(f"{parameter_label(name)} {_dimension(d)}" for name, d in space.dimensions.items())


def _dimension(dimension: DimensionSpec) -> str:
    if dimension.values is not None:
        return separator().join(map(rate, dimension.values))
    low, high = map(rate, bounds(dimension))
    if dimension.log is None:
        return _("%(low)s to %(high)s", low=low, high=high)
    if dimension.log:
        return _("%(low)s to %(high)s log", low=low, high=high)
    return _("%(low)s to %(high)s linear", low=low, high=high)


def configuration_text(configuration: Configuration) -> str:
    """`learning rate 0.001, rank 8`; of a learning rate alone its value."""
    values = configuration.values
    if set(values) == {"learning_rate"}:
        return rate(values["learning_rate"])
    return trial_of(configuration)


def trial_of(configuration: Configuration) -> str:
    """`learning rate 0.001`, `learning rate 0.001, rank 8`."""
    values = configuration.values.items()
    return ", ".join(f"{parameter_label(name)} {value_text(name, value)}" for name, value in values)


def varied(study: StudyComparison) -> list[Parameter]:
    """The hyperparameters that some arm searches."""
    spaces = [arm.tuning.space.dimensions for arm in study.arms if arm.tuning]
    return [name for name in PARAMETERS if any(name in space for space in spaces)]


def trial_text(trial: Trial) -> str:
    """`run 12`, and its failure or state where it has no result."""
    run = _("run %(id)s", id=trial.run_id)
    if trial.failure:
        return _("%(run)s: %(why)s", run=run, why=failure_label(trial.failure))
    return _("%(run)s: %(why)s", run=run, why=_(STATES[trial.status])) if trial.status in STATES else run


def search_text(study: StudySpec) -> str:
    """What was searched with, and what the verdict is about: `Random search: 12 trials per arm, 1 seed per
    configuration, the same for every arm. The verdict is about …`; empty without tuning."""
    if not study.tuning.rounds:
        return ""
    return _(
        "%(kind)s: %(rounds)s, %(seeds)s per configuration, the same for every arm. The verdict is about the "
        "configurations that the searches choose, not about the methods at any other.",
        kind=capitalized(tuning_title(study.tuning.kind)),
        rounds=rounds(study),
        seeds=ngettext("%(num)s seed", "%(num)s seeds", study.tuning.seeds),
    )


def search_summary(arm: StudyArm) -> str:
    """An arm's search space, what it used of the budget, and what was chosen; empty without tuning."""
    tuning = arm.tuning
    if tuning is None:
        return ""
    parts = [_("Searched: %(space)s.", space=space_text(tuning.space))]
    if tuning.trials:
        parts.append(_("Used %(used)s.", used=used_text(tuning)))
    if tuning.chosen:
        parts.append(_("Chosen: %(configuration)s.", configuration=trial_of(tuning.chosen)))
    return " ".join(filter(None, (*parts, tuning_remark(arm))))


def tuning_remark(arm: StudyArm) -> str:
    """How far an arm's configuration can be trusted, or why it has none; empty where there is nothing to say."""
    if arm.untrainable:
        return _("Every trial of a round failed, so the arm has no runs.")
    if arm.stopped and not arm.runs:
        return _("The arm was stopped before a configuration was chosen.")
    if arm.tuning is None:
        return ""
    if arm.tuning.chosen and len(arm.tuning.last_tried) == 1:
        return _("The budget ended after one configuration, so it was compared with no other.")
    rival = arm.tuning.rival
    edges = [_(EDGES[end], name=parameter_label(name)) for name, end in arm.tuning.edges.items()]
    return " ".join([*([_close(rival)] if rival else []), *edges])


def _close(rival: Rival) -> str:
    by = _("as good") if not rival.behind else _("%(by)s points behind", by=decimal(rival.behind * 100))
    return ngettext(
        "%(what)s is %(by)s: with %(num)s validation item, up to %(within)s points are chance.",
        "%(what)s is %(by)s: with %(num)s validation items, up to %(within)s points are chance.",
        rival.items,
        what=configuration_text(rival.configuration),
        by=by,
        within=decimal(rival.within * 100),
    )


FILTERS = (
    rounds,
    tuning_hint,
    parameter_label,
    value_text,
    dimension_text,
    space_text,
    configuration_text,
    trial_of,
    used_text,
    varied,
    trial_text,
    search_text,
    tuning_remark,
)
