"""What an arm is, in a few words: what it trains, and with which settings."""

from app.domain.comparison.study import StudyArm
from app.domain.methods import FullSpec, HeadOnlySpec
from app.domain.methods.base import LinearMethod
from app.domain.models.base_model import ModelFacts
from app.domain.tasks import TASKS, Task
from app.web.format import NBSP, count, rate
from app.web.i18n import gettext as _
from app.web.i18n import marked

CONDITIONS = {
    "weight decay": marked("weight decay"),
    "device kind": marked("kind of device"),
    "device": marked("device"),
    "threads": marked("threads"),
    "precision": marked("precision"),
    "attention": marked("attention"),
    "splits": marked("rows of the splits"),
    "test items": marked("test items"),
    "order of the rows": marked("order of the rows, by seed"),
    "steps": marked("optimizer steps"),
    "tokens trained on": marked("tokens trained on"),
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "vezna": "vezna",
    "trials": marked("trials"),
    "steps of the trials": marked("steps of the trials"),
    "tokens of the trials": marked("tokens of the trials"),
}
"""Names of a comparison's conditions as a page says them."""

SCALES = ("lora_alpha", "alpha")
SAID = (
    "kind",
    "target_modules",
    "r",
    "init_r",
    "target_r",
    "use_dora",
    "use_rslora",
    "layers",
    "num_virtual_tokens",
    "bottleneck_size",
    "placement",
    "oft_block_size",
)
"""Fields of methods that an arm's name or the layers beside it say already."""


def condition(name: str) -> str:
    """A condition's name."""
    return _(CONDITIONS.get(name, name))


def condition_value(value: str) -> str:
    """A condition's value; whole numbers with their thousands parted."""
    return ", ".join(count(int(part)) if part.isdecimal() else part for part in value.split(", ")) or "–"


def trains(arm: StudyArm, model: ModelFacts | None, task: Task) -> str:
    """`every weight`, `query, value, and the head`, `the head`; of the rest, what the method says of itself."""
    match arm.spec.method:
        case FullSpec():
            return _("every weight")
        case HeadOnlySpec():
            return _("the head")
        case LinearMethod() as spec:
            found = targets(spec, model, task)
            return _("%(targets)s, and the head", targets=found) if _has_head(model, task) else found
        case spec:
            return _(spec.facts.summary)


def settings(arm: StudyArm, model: ModelFacts | None, task: Task) -> str:
    """The second line of a row: `query, value, α 16, lr 5e-4`."""
    spec = arm.spec.method
    parts = [targets(spec, model, task) if isinstance(spec, LinearMethod) else trains(arm, model, task)]
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if name in SCALES:
            parts.append(f"α{NBSP}{value}")
        elif name not in SAID and value != field.default:
            parts.append(name if value is True else f"{name}{NBSP}{_written(value)}")
    known = arm.tuning is None or arm.tuning.chosen is not None
    return ", ".join([*parts, *([_("lr %(rate)s", rate=rate(arm.learning_rate))] if known else [])])


def targets(spec: LinearMethod, model: ModelFacts | None, task: Task) -> str:
    """The layers that a method stands beside; where the spec names none they are PEFT's choice for the model."""
    if spec.target_modules == "all-linear":
        return _("all linear layers")
    if isinstance(spec.target_modules, str):
        return spec.target_modules
    known = model.tasks.get(task) if model else None
    names = spec.target_modules or (spec.defaults(known) if known else [])
    return ", ".join(names) or _("PEFT's choice of layers")


def _has_head(model: ModelFacts | None, task: Task) -> bool:
    known = model.tasks.get(task) if model else None
    return bool(known.head) if known else TASKS[task].adds_head


def _written(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return rate(value) if isinstance(value, float) else str(value)
