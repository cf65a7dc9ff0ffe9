"""An arm of a study: a method with its configuration, and the name that distinguishes it from the other arms."""

from collections.abc import Sequence
from itertools import count

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.domain.messages import _
from app.domain.methods import MethodSpec
from app.domain.names import Line
from app.domain.runs.training import MAX_STEPS, LearningRate, TrainingBudget
from app.domain.studies.tuning import MOST_RATES
from app.domain.validation import invalid_field

MAX_NAME = 60


class ArmSpec(BaseModel):
    """A method with its configuration; what it does not set is the study's."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Line = Field(default="", max_length=MAX_NAME)
    """Unique in the study. Empty takes the method's label, with what distinguishes the arm from others of that label:
    `LoRA r=8`, `LoRA r=8 query,value`."""
    method: MethodSpec
    learning_rate: LearningRate | None = None
    """None takes the method's default. With tuning, the middle of the rates to try."""
    learning_rates: list[LearningRate] | None = Field(default=None, min_length=2, max_length=MOST_RATES)
    """With tuning, the rates to try, in place of those around `learning_rate`."""
    train_fraction: float | None = Field(default=None, gt=0, le=1)
    """This and the following are training arguments in place of the study's; None takes the study's."""
    num_train_epochs: float | None = Field(default=None, gt=0, le=1000)
    """Replaces the study's `max_steps` too."""
    max_steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    per_device_train_batch_size: int | None = Field(default=None, ge=1, le=4096)
    gradient_accumulation_steps: int | None = Field(default=None, ge=1, le=4096)
    warmup_steps: float | None = Field(default=None, ge=0, le=MAX_STEPS)
    weight_decay: float | None = Field(default=None, ge=0, le=10)

    @field_validator("learning_rates")
    @classmethod
    def _rates_differ(cls, rates: list[float] | None) -> list[float] | None:
        for place, rate in enumerate(rates or []):
            if rate in (rates or [])[:place]:
                raise invalid_field(
                    str(place), _("The rate %(rate)g is given twice", rate=rate), _("Change or remove it")
                )
        return rates

    @property
    def rate(self) -> float:
        """The learning rate without tuning: its own, or its method's default."""
        return self.method.learning_rate(self.learning_rate)

    @property
    def overrides(self) -> dict[str, int | float]:
        """The training arguments that it has in place of the study's, by name."""
        return {name: value for name in OVERRIDABLE if (value := getattr(self, name)) is not None}

    def training(self, budget: TrainingBudget) -> TrainingBudget:
        """A study's budget with this arm's arguments."""
        own: dict[str, object] = dict(self.overrides)
        if self.num_train_epochs is not None:
            own["max_steps"] = self.max_steps
        return budget.model_copy(update=own) if own else budget

    @property
    def title(self) -> str:
        """Its name; in a study, every arm has one."""
        return self.name or self.method.label


OVERRIDABLE = tuple(name for name in ArmSpec.model_fields if name in TrainingBudget.model_fields)
"""The training arguments that an arm may set for itself."""


def arm_names(arms: Sequence[ArmSpec]) -> list[str]:
    """The name of every arm: its own, else its method's label with the settings that distinguish it.

    Settings at their defaults are left out where the name is unique without them. So `LoRA r=8` keeps its name when
    `LoRA r=8 query,value` joins it. Two arms with the same settings get the same name, which the study rejects.
    """
    names = [arm.name for arm in arms]
    for place, arm in enumerate(arms):
        if not arm.name:
            alike = [other for other in arms if other.method.label == arm.method.label]
            label, settings = arm.method.label, _settings(arm)
            pairs = zip(names, arms, strict=True)
            twins = [name for name, other in pairs if name.startswith(label) and _settings(other) == settings]
            names[place] = twins[0] if twins else _unique_name(arm, alike, {*names} - {""})
    return names


def without_default_names(arms: Sequence[ArmSpec]) -> list[ArmSpec]:
    """The arms without the names that they would have anyway: edited, they are named after what they have become."""
    unnamed = [arm.model_copy(update={"name": ""}) for arm in arms]
    pairs = zip(arms, unnamed, arm_names(unnamed), strict=True)
    return [bare if arm.name == name else arm for arm, bare, name in pairs]


def _unique_name(arm: ArmSpec, alike: Sequence[ArmSpec], taken: set[str]) -> str:
    label, settings = arm.method.label, _settings(arm)
    others = [_settings(other) for other in alike if other.method.kind == arm.method.kind]
    distinct = [name for name in settings if any(other[name] != settings[name] for other in others)]
    defaults = _settings(ArmSpec(method=type(arm.method)()))
    changed = [name for name in distinct if name == "learning_rate" or settings[name] != defaults[name]]
    for shown in (changed, distinct):
        name = " ".join([label, *(_shown(setting, settings[setting]) for setting in shown)])
        if name not in taken and len(name) <= MAX_NAME:
            return name
    return next(name for number in count(2) if (name := f"{label[: MAX_NAME - 6]} ({number})") not in taken)


def _settings(arm: ArmSpec) -> dict[str, object]:
    own = {"learning_rate": arm.rate, "learning_rates": arm.learning_rates}
    return arm.method.model_dump() | own | {name: getattr(arm, name) for name in OVERRIDABLE}


SHORT_NAMES = {
    "learning_rate": "lr",
    "lora_alpha": "alpha",
    "init_lora_weights": "init",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch",
    "gradient_accumulation_steps": "accumulation",
    "warmup_steps": "warmup",
    "layers_to_transform": "blocks",
}


def _shown(name: str, value: object) -> str:
    """`lr=0.002`, `all-linear`, `query,value`, `use_dora`."""
    short = SHORT_NAMES.get(name, "dropout" if name.endswith("_dropout") else name)
    match value:
        case None:
            return f"default {short}"
        case bool():
            return short if value else f"{short}=false"
        case float():
            return f"{short}={value:g}"
        case list():
            value = ",".join(map(str, value))
    return str(value) if name == "target_modules" else f"{short}={value}"
