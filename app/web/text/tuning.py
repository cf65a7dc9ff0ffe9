"""How learning rates are tuned, in words."""

from app.domain.studies.tuning import GridTuning, HalvingTuning, TuningSpec
from app.web.format import decimal, rate
from app.web.i18n import gettext as _
from app.web.i18n import marked

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
FURTHER = "further"
"""In an address: arms whose best rate is at an end of those tried will try rates around it."""


def options() -> list[tuple[str, str]]:
    """The kinds of tuning with their titles."""
    return [(kind, _(title)) for kind, title in TUNINGS.items()]


def hint(kind: str) -> str:
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


def rate_list(rates: tuple[float, ...]) -> str:
    """Rates as they are typed into a form: `0.001, 0.002`."""
    return ", ".join(map(rate, rates))
