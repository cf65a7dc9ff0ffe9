"""The names of the form's own fields, and what an added arm will run."""

from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.tuning import RandomTuning, TpeTuning
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext
from app.words.runs.fields import ARM_FIELDS, SEARCH_FIELDS, TRAINING_FIELDS, TUNING_FIELDS, field_text
from app.words.studies.tuning import amount

OWN_LABELS = {
    "name": marked("Name of the study"),
    "base_model": marked("Base model"),
    "dataset": marked("Dataset"),
    "task": marked("Task"),
    "metric": marked("Metric"),
    "general_text": marked("General text"),
    "arms": marked("Arms"),
    "margin_points": marked("Margin"),
    "alternative": marked("Question"),
    "seeds": marked("Seeds"),
    "reference": marked("Reference"),
    "tuning": marked("Tuning"),
    "train_together": marked("Train together"),
    "insist": marked("Memory"),
}


def label(path: str, titles: list[str]) -> str:
    """A field with its arm, as an error names it: `LoRA r=8, rank`. `titles` are the arms' names."""
    group, _dot, last = path.rpartition(".")
    if path in OWN_LABELS:
        return _(OWN_LABELS[path])
    if group in ("tuning", "training"):
        return field_text(TUNING_FIELDS if group == "tuning" else TRAINING_FIELDS, last).label
    if not group.startswith("arms."):
        return last
    number = path.split(".")[1]
    title = titles[int(number)] if number.isdecimal() and int(number) < len(titles) else ""
    table = SEARCH_FIELDS if group.endswith(".search") else ARM_FIELDS
    field = "" if last in ("kind", "search") else field_text(table, last).label
    return ", ".join(part for part in (title, field) if part)


def owed_runs(spec: StudySpec) -> str:
    """What an arm that is added to a study will run."""
    runs = ngettext("%(num)s run", "%(num)s runs", len(spec.seeds))
    if not spec.tuning.rounds:
        return _("It gets the same seeds as the other arms: %(runs)s.", runs=runs)
    trials = amount(spec.tuning.unit, _budget(spec))
    return _(
        "It gets the same tuning budget and the same seeds as the other arms: %(trials)s, then %(runs)s.",
        trials=trials,
        runs=runs,
    )


def _budget(spec: StudySpec) -> float:
    if isinstance(spec.tuning, RandomTuning | TpeTuning):
        return spec.tuning.budget
    return max(spec.trials_owed(arm) or 0 for arm in spec.arms)
