"""An arm in a few words: what it trains, with which settings, and why it has no runs."""

from app.domain.comparison.fairness.conditions import ALLOCATED, RESIDENT
from app.domain.comparison.fairness.confounders import ConditionName
from app.domain.comparison.study import StudyArm
from app.domain.methods import FullSpec, HeadOnlySpec
from app.domain.methods.base import LinearMethod
from app.domain.models.base_model import ModelFacts
from app.domain.studies.arms import ArmSpec
from app.domain.tasks import TASKS, Task
from app.words.format import NBSP, count, general, rate, share
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext
from app.words.runs.failures import failure_label

CONDITION_LABELS: dict[ConditionName, str] = {
    "train_fraction": marked("training rows"),
    "epochs": marked("epochs"),
    "batch": marked("batch size"),
    "warmup": marked("warmup"),
    "weight_decay": marked("weight decay"),
    "device_kind": marked("device type"),
    "device": marked("device"),
    "threads": marked("threads"),
    "precision": marked("precision"),
    "attention": marked("attention"),
    "metric": marked("metric"),
    "metric_version": marked("version of the metric"),
    "dataset": marked("dataset"),
    "base_model": marked("base model"),
    "memory_measure": marked("how memory was measured"),
    "splits": marked("split rows"),
    "test_items": marked("test items"),
    "row_order": marked("row order, by seed"),
    "steps": marked("optimizer steps"),
    "tokens": marked("training tokens"),
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "vezna": "vezna",
    "trials": marked("trials"),
    "trial_steps": marked("trial steps"),
    "trial_tokens": marked("trial tokens"),
}

SCALES = ("lora_alpha", "alpha")
SHOWN_ELSEWHERE = (
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
"""Fields of methods that an arm's name or its target modules show already."""


def condition_label(name: ConditionName) -> str:
    return _(CONDITION_LABELS[name])


def condition_value(value: str) -> str:
    """A condition's value; whole numbers with grouped thousands."""
    if value in (ALLOCATED, RESIDENT):
        return _(value)
    return ", ".join(count(int(part)) if part.isdecimal() else part for part in value.split(", ")) or "–"


def trains(arm: StudyArm, model: ModelFacts | None, task: Task) -> str:
    """`every weight`, `query, value, and the head`, `the head`; of the rest, the method's summary."""
    match arm.spec.method:
        case FullSpec():
            return _("every weight")
        case HeadOnlySpec():
            return _("the head")
        case LinearMethod() as spec:
            modules = targets(spec, model, task)
            return _("%(targets)s, and the head", targets=modules) if _has_head(model, task) else modules
        case spec:
            return _(spec.facts.summary)


def arm_settings(arm: StudyArm, model: ModelFacts | None, task: Task) -> str:
    """The second line of a row: `query, value, α 16, lr 5e-4`."""
    spec = arm.settled.method
    parts = [targets(spec, model, task) if isinstance(spec, LinearMethod) else trains(arm, model, task)]
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if name in SCALES:
            parts.append(f"α{NBSP}{value}")
        elif name not in SHOWN_ELSEWHERE and value != field.default:
            parts.append(name if value is True else f"{name}{NBSP}{_written(value)}")
    known = arm.tuning is None or arm.tuning.chosen is not None
    lr = [_("lr %(rate)s", rate=rate(arm.learning_rate))] if known else []
    rank = [_("rank %(rank)s", rank=count(arm.configuration.r))] if arm.configuration.r else []
    return ", ".join([*parts, *lr, *rank, *own_training(arm.settled)])


def own_training(arm: ArmSpec) -> list[str]:
    """The training arguments that an arm has in place of the study's: `batch size 64`, `25 % of the training rows`."""
    texts = {
        "train_fraction": lambda value: _("%(share)s of the training rows", share=share(value, 1)),
        "num_train_epochs": lambda value: ngettext(
            "%(epochs)s epoch", "%(epochs)s epochs", 1 if value == 1 else 2, epochs=general(value)
        ),
        "max_steps": lambda value: ngettext("%(num)s step", "%(num)s steps", value),
        "per_device_train_batch_size": lambda value: _("batch size %(rows)s", rows=count(value)),
        "gradient_accumulation_steps": lambda value: ngettext(
            "%(num)s accumulation step", "%(num)s accumulation steps", value
        ),
        "devices": lambda value: ngettext("%(num)s device", "%(num)s devices", value),
        "warmup_steps": lambda value: _("warmup %(steps)s", steps=rate(value)),
        "weight_decay": lambda value: _("weight decay %(decay)s", decay=general(value)),
    }
    return [texts[name](value) for name, value in arm.overrides.items()]


def arm_state(arm: StudyArm) -> str:
    """Why an arm has no runs, or gets no more of them; empty where neither is so."""
    if arm.stopped:
        return _("stopped")
    if arm.untrainable:
        reason = _(": %(why)s", why=failure_label(arm.failure)) if arm.failure else ""
        return _("every trial of a round failed") + reason
    return _("its hyperparameters are being tuned") if arm.awaits_rate else ""


def targets(spec: LinearMethod, model: ModelFacts | None, task: Task) -> str:
    """The target modules of a method, by name if PEFT chooses them."""
    match spec.target_modules:
        case "all-linear":
            return _("all linear layers")
        case "peft-default":
            architecture = model.tasks.get(task) if model else None
            return ", ".join(spec.defaults(architecture) if architecture else []) or _("PEFT's default modules")
        case str(pattern):
            return pattern
        case names:
            return ", ".join(names)


def _has_head(model: ModelFacts | None, task: Task) -> bool:
    architecture = model.tasks.get(task) if model else None
    return bool(architecture.head) if architecture else TASKS[task].adds_head


def _written(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return rate(value) if isinstance(value, float) else str(value)


FILTERS = (arm_settings, arm_state, condition_label, condition_value)
