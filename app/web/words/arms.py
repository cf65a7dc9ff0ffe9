"""What an arm is, in a few words: what it trains, and with which settings."""

from app.domain.comparison import Arm
from app.domain.methods import FullSpec, LoraSpec
from app.web.i18n import gettext as _
from app.web.i18n import marked
from app.web.numbers import count, rate

CONDITIONS = {
    "device": marked("device"),
    "threads": marked("threads"),
    "precision": marked("precision"),
    "attention": marked("attention"),
    "steps": marked("optimizer steps"),
    "tokens trained on": marked("tokens trained on"),
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
}
"""Names of `domain.comparison.CONDITIONS` as a page says them."""


def condition(name: str) -> str:
    """A condition's name."""
    return _(CONDITIONS.get(name, name))


def condition_value(value: str) -> str:
    """A condition's value; whole numbers with their thousands parted."""
    return ", ".join(count(int(part)) if part.isdecimal() else part for part in value.split(", ")) or "–"


def trains(arm: Arm) -> str:
    """`every weight`, `query, value, and the head`, `the head`."""
    match arm.spec.method:
        case FullSpec():
            return _("every weight")
        case LoraSpec() as spec:
            return _("%(targets)s, and the head", targets=_targets(spec))
        case _:
            return _("the head")


def settings(arm: Arm) -> str:
    """The second line of a row: `query, value, α 16, lr 5e-4`."""
    learning_rate = _("lr %(rate)s", rate=rate(arm.learning_rate))
    match arm.spec.method:
        case FullSpec():
            parts = [_("every weight")]
        case LoraSpec() as spec:
            parts = [_targets(spec), f"α\N{NO-BREAK SPACE}{spec.lora_alpha}"]
        case _:
            parts = [_("the head")]
    return ", ".join([*parts, learning_rate])


def _targets(spec: LoraSpec) -> str:
    if spec.target_modules == "all-linear":
        return _("all linear layers")
    return ", ".join(spec.target_modules) if spec.target_modules else _("PEFT's choice of layers")
