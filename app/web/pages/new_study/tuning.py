"""How a study that is being planned looks for learning rates: the choice, its fields, and what each arm would try."""

from dataclasses import dataclass

from app.domain.studies.tuning import GridTuning, HalvingTuning, TuningSpec
from app.web.format import decimal, rate
from app.web.forms.field_context import ErrorsOf, Fields, view
from app.web.i18n import gettext as _
from app.web.i18n import marked
from app.web.pages.new_study.form import TUNING, TUNINGS, StudyForm
from app.web.text.fields import TUNING_FIELDS

FURTHER = "further"
"""In an address: the arms of a study whose best rate is at an end of those tried try rates around it."""
WORDS = {
    "none": marked("not tuned"),
    "grid": marked("a grid of rates"),
    "halving": marked("successive halving"),
}
HINTS = {
    "none": marked("One rate for each arm. The verdict then holds for these rates alone, and says so."),
    "grid": marked("Each rate for as long as a run trains, judged on the validation split; as many for every arm."),
    "halving": marked(
        "Many rates for a short time, the best for longer, judged on the validation split; as many for every arm."
    ),
}


@dataclass(frozen=True)
class NewTuning:
    """The choice."""

    kind: str
    fields: Fields

    @classmethod
    def of(cls, form: StudyForm, errors_of: ErrorsOf) -> "NewTuning":
        """From what was typed."""
        views = (view(TUNING_FIELDS, TUNING, f, form.tuning_value(f), errors_of) for f in TUNINGS[form.tuning])
        return cls(form.tuning, Fields.of(views, TUNING_FIELDS))

    @property
    def options(self) -> list[tuple[str, str]]:
        """The ways, in words."""
        return [(kind, _(words)) for kind, words in WORDS.items()]

    @property
    def hint(self) -> str:
        """What the chosen way means."""
        return _(HINTS[self.kind])


def rounds(tuning: TuningSpec) -> str:
    """`3 rates an arm`, `6 rates for 33 % of the budget, then 2 for all of it`."""
    match tuning:
        case HalvingTuning():
            parts = [
                _("%(rates)s rates for %(share)s of the budget", rates=r.rates, share=f"{decimal(100 * r.share, 0)} %")
                for r in tuning.rounds[:-1]
            ]
            return ", ".join([*parts, _("then %(rates)s for all of it", rates=tuning.rounds[-1].rates)])
        case GridTuning():
            return _("%(rates)s rates for each arm", rates=tuning.rates)
        case _:
            return ""


def row(rates: tuple[float, ...]) -> str:
    """Rates one after the other, as one would type them."""
    return ", ".join(map(rate, rates))
