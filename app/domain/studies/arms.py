"""An arm of a study: a method with its configuration, and the name that distinguishes it from the other arms."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import count
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.messages import _
from app.domain.methods import AnyMethod, MethodSpec
from app.domain.runs.training import MAX_DEVICES, MAX_STEPS, LearningRate, TrainingBudget
from app.domain.studies.tuning.search_space import Configuration, SearchSpace
from app.domain.validation import Line, invalid_field

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
    search: SearchSpace | None = None
    """With tuning, what trials vary; None varies the learning rate, around `learning_rate`."""
    train_fraction: float | None = Field(default=None, gt=0, le=1)
    """This and the following are training arguments in place of the study's; None takes the study's."""
    num_train_epochs: float | None = Field(default=None, gt=0, le=1000)
    """Replaces the study's `max_steps` too."""
    max_steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    per_device_train_batch_size: int | None = Field(default=None, ge=1, le=4096)
    gradient_accumulation_steps: int | None = Field(default=None, ge=1, le=4096)
    devices: int | None = Field(default=None, ge=1, le=MAX_DEVICES)
    warmup_steps: float | None = Field(default=None, ge=0, le=MAX_STEPS)
    weight_decay: float | None = Field(default=None, ge=0, le=10)

    @model_validator(mode="before")
    @classmethod
    def _name_the_dimension(cls, values: Any) -> Any:
        """`learning_rates` is short for a search of the learning rate alone."""
        if not isinstance(values, dict) or "learning_rates" not in values:
            return values
        rates, others = values["learning_rates"], {n: v for n, v in values.items() if n != "learning_rates"}
        if rates is None:
            return others
        if others.get("search") is not None:
            raise invalid_field(
                "learning_rates", _("The arm has both learning_rates and search"), _("Use search.learning_rate")
            )
        return others | {"search": {"learning_rate": rates}}

    @model_validator(mode="after")
    def _can_search(self) -> "ArmSpec":
        for name, field in (("r", self.rank_field), ("lora_alpha", self.alpha_field)):
            if self.search and getattr(self.search, name) and field is None:
                what = _("The method %(method)s has no %(name)s", method=self.method.facts.name, name=name)
                raise invalid_field(f"search.{name}", what, _("Remove it from the search, or choose a LoRA method"))
        if self.search and not self.search.dimensions:
            raise invalid_field("search", _("The search space is empty"), _("Name a hyperparameter, or leave it out"))
        return self

    @property
    def rate(self) -> float:
        """The learning rate without tuning: its own, which an arm of a submitted study always has, or its method's
        default for a narrow base model."""
        return self.method.learning_rate(self.learning_rate)

    def with_default_rate(self, width: int | None, factor: float = 1.0) -> "ArmSpec":
        """With its method's default for a base model of this width, times the task's factor, unless it has a learning
        rate."""
        return self.model_copy(update={"learning_rate": self.method.learning_rate(self.learning_rate, width, factor)})

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

    def at(self, configuration: Configuration, budget: TrainingBudget) -> "ArmSpec":
        """The arm with what a search has chosen, within a study's budget. Raises pydantic's ValidationError.

        Alpha keeps its ratio to the rank unless it was searched too. The micro-batch is the largest divisor of the
        batch size that is not above the arm's own, so that a larger batch needs no more memory; each device has as many
        of them.
        """
        values: dict[str, object] = {str(name): value for name, value in configuration.values.items()}
        rank, alpha, size = (values.pop(name, None) for name in ("r", "lora_alpha", "batch_size"))
        if rank is not None or alpha is not None:
            values["method"] = self._method_at(configuration)
        if configuration.batch_size is not None and size is not None:
            own, total = self.training(budget), configuration.batch_size
            sizes = [rows for rows in range(1, own.per_device_train_batch_size + 1) if total % rows == 0]
            micro = max((rows for rows in sizes if total // rows % own.devices == 0), default=sizes[-1])
            values["per_device_train_batch_size"] = micro
            values["gradient_accumulation_steps"] = total // micro
        if configuration.num_train_epochs is not None:
            values["max_steps"] = None
        if not values:
            return self
        return ArmSpec.model_validate(self.model_dump() | {"search": None} | values)

    @property
    def largest(self) -> "ArmSpec":
        """The arm with the largest rank that its search may try: what needs the most memory."""
        return self._of_rank(max)

    @property
    def smallest(self) -> "ArmSpec":
        """The arm with the smallest rank that its search may try: what trains fastest."""
        return self._of_rank(min)

    def _of_rank(self, choose: Callable[[Sequence[float]], float]) -> "ArmSpec":
        ranks = [value for name, value in self.search.extremes() if name == "r"] if self.search else []
        if not ranks:
            return self
        return self.model_copy(update={"method": self._method_at(Configuration(r=int(choose(ranks))))})

    def _method_at(self, configuration: Configuration) -> AnyMethod:
        update: dict[str, int] = {}
        rank, alpha = self.rank_field, self.alpha_field
        if configuration.r is not None and rank:
            update[rank] = configuration.r
            if alpha:
                ratio = Fraction(getattr(self.method, alpha)) / getattr(self.method, rank)
                update[alpha] = max(1, round(ratio * configuration.r))
        if configuration.lora_alpha is not None and alpha:
            update[alpha] = configuration.lora_alpha
        return type(self.method).model_validate(self.method.model_dump() | update)

    @property
    def rank_field(self) -> str | None:
        """The field of its method that a search of the rank sets; None without a rank."""
        return next((name for name in ("r", "init_r") if name in type(self.method).model_fields), None)

    @property
    def alpha_field(self) -> str | None:
        """The same of alpha."""
        return next((name for name in ("lora_alpha", "alpha") if name in type(self.method).model_fields), None)

    @property
    def label(self) -> str:
        """Its method's label; without the rank, if that is searched."""
        return f"{self.method.facts.name} r tuned" if self.search and self.search.r else self.method.label

    @property
    def title(self) -> str:
        """Its name; in a study, every arm has one."""
        return self.name or self.label


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
            alike = [other for other in arms if other.label == arm.label]
            label, settings = arm.label, _settings(arm)
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
    label, settings = arm.label, _settings(arm)
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
    own = {"learning_rate": arm.rate, "search": arm.search.model_dump(exclude_none=True) if arm.search else None}
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
        case dict():
            return f"other {short}"
        case list():
            value = ",".join(map(str, value))
    return str(value) if name == "target_modules" else f"{short}={value}"
