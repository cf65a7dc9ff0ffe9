"""What an arm is, in a few words: what it trains, and with which settings."""

from app.domain.comparison import Arm
from app.domain.methods import FullSpec, LoraSpec
from app.domain.models import ModelFacts
from app.web.i18n import gettext as _
from app.web.i18n import marked
from app.web.numbers import count, rate

CONDITIONS = {
    "weight decay": marked("weight decay"),
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
"""Names of a comparison's conditions as a page says them."""


def condition(name: str) -> str:
    """A condition's name."""
    return _(CONDITIONS.get(name, name))


def condition_value(value: str) -> str:
    """A condition's value; whole numbers with their thousands parted."""
    return ", ".join(count(int(part)) if part.isdecimal() else part for part in value.split(", ")) or "–"


def trains(arm: Arm, model: ModelFacts | None) -> str:
    """`every weight`, `query, value, and the head`, `the head`."""
    match arm.spec.method:
        case FullSpec():
            return _("every weight")
        case LoraSpec() as spec:
            return _("%(targets)s, and the head", targets=targets(spec, model))
        case _:
            return _("the head")


def settings(arm: Arm, model: ModelFacts | None) -> str:
    """The second line of a row: `query, value, α 16, lr 5e-4`."""
    learning_rate = _("lr %(rate)s", rate=rate(arm.learning_rate))
    match arm.spec.method:
        case FullSpec():
            parts = [_("every weight")]
        case LoraSpec() as spec:
            parts = [targets(spec, model), f"α\N{NO-BREAK SPACE}{spec.lora_alpha}"]
        case _:
            parts = [_("the head")]
    return ", ".join([*parts, learning_rate])


def targets(spec: LoraSpec, model: ModelFacts | None) -> str:
    """The layers that LoRA stands beside; where the spec names none they are PEFT's choice for the model."""
    if spec.target_modules == "all-linear":
        return _("all linear layers")
    names = spec.target_modules or (model.default_target_modules if model else [])
    return ", ".join(names) or _("PEFT's choice of layers")
