"""The names of the form's own fields, and what an added arm will run."""

from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning import trials_owed
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext
from app.web.pages.new_study.form import TRAINING, TUNING
from app.web.text.fields import TRAINING_FIELDS, TUNING_FIELDS, arm_label, field_text

OWN_LABELS = {
    "name": marked("Name of the study"),
    "base_model": marked("Base model"),
    "dataset": marked("Dataset"),
    "task": marked("Task"),
    "metric": marked("Metric"),
    "general_text": marked("General text"),
    "arms": marked("Arms"),
    "margin_points": marked("Margin"),
    "seeds": marked("Seeds"),
    "reference": marked("Reference"),
    "tuning": marked("Tuning"),
    "insist": marked("Memory"),
}


def label(path: str, titles: list[str]) -> str:
    """A field with its arm, as an error names it: `LoRA r=8, rank`. `titles` are the arms' names."""
    head, _dot, last = path.rpartition(".")
    if path in OWN_LABELS:
        return _(OWN_LABELS[path])
    if head == TUNING.rstrip("."):
        return field_text(TUNING_FIELDS, last).label
    if head == TRAINING.rstrip("."):
        return field_text(TRAINING_FIELDS, last).label
    if not head.startswith("arms."):
        return last
    number, _dot, field = path.removeprefix("arms.").partition(".")
    title = titles[int(number)] if number.isdecimal() and int(number) < len(titles) else ""
    if last == "kind":
        return title
    return ", ".join(part for part in (title, arm_label(field)) if part)


def owed_runs(spec: StudySpec) -> str:
    """What an arm that is added to a study will run."""
    runs = ngettext("%(num)s run", "%(num)s runs", len(spec.seeds))
    if not spec.tuning.rounds:
        return _("It gets the same seeds as the other arms: %(runs)s.", runs=runs)
    trials = ngettext("%(num)s trial", "%(num)s trials", trials_owed(spec.tuning))
    return _(
        "It gets as many trials and the same seeds as the other arms: %(trials)s, then %(runs)s.",
        trials=trials,
        runs=runs,
    )
