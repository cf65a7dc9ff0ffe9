"""The base of all methods: its fields, the parameters that it trains on a model, and why it would not work with it.

A method is a frozen pydantic model, tagged by `kind`. `trains` lists its trainable parameters by its definition; the
parameter count before queueing and the freeze audit of the model in training both use this list.

`mechanism` says how the engine applies it:

    selection    parameters of the model train, and none are added               `worker/engine/methods/selection.py`
    peft         PEFT adds modules or virtual tokens                             `worker/engine/methods/peft.py`
    bottleneck   adapter layers after the model's own (Houlsby, Pfeiffer)        `worker/engine/methods/bottleneck.py`
    scratch      LoRA without PEFT                                               `worker/engine/methods/scratch.py`

rate = 5e-5 · m · (2000 / width)^0.781        m: 1 for full fine-tuning, 10 for LoRA

The form and its constants are those of Tinker's documentation (supervised-learning/sl-hyperparams, 2025: sweeps of
Llama models; independent of LoRA's rank); the factor of 10 is also that of LoRA Without Regret (Schulman et al. 2025).
The multiples of other methods are ours: see docs/tuning.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from app.domain.errors import FieldError
from app.domain.messages import Message, _
from app.domain.methods.targets import ALL_LINEAR, PEFT_DEFAULT, Targets, chosen
from app.domain.models.architecture import LinearFacts, TaskModel, Tensor, matching, short_names
from app.domain.runs.capabilities import Capability
from app.domain.tasks import TASKS, Task

FULL_RATE = 5e-5
"""Learning rate of full fine-tuning at the width `REFERENCE_WIDTH`."""
REFERENCE_WIDTH = 2000
EXPONENT = 0.781
NARROWEST = 384
"""Narrower models get the rate of this width: no sweep supports a higher one."""


def default_rate(multiple: float, width: int | None = None) -> float:
    """The peak learning rate of a method for a base model with tokens of this width, to two digits. `multiple` is the
    method's, of full fine-tuning's rate. Without a width, that of `NARROWEST`."""
    ratio = REFERENCE_WIDTH / max(width or NARROWEST, NARROWEST)
    return float(f"{FULL_RATE * multiple * ratio**EXPONENT:.1e}")


Family = Literal["full", "partial", "head", "lora", "low-rank", "scaling", "prompt", "adapter"]
"""Decides the colour and the marker on pages and in charts."""
Mechanism = Literal["selection", "peft", "bottleneck", "scratch"]
Unchanged = Literal["head", "biases", "tokens", "networks"]
"""What trains where no weight matrix changes; the sentences are in `app.domain.models.weight_delta`."""
WRAPPED = "base_model.model"
"""PEFT's name for a model to which it adds modules."""
EVERY_TASK: tuple[Task, ...] = tuple(TASKS)
TEXT_TASKS: tuple[Task, ...] = tuple(task for task, facts in TASKS.items() if facts.reads == "texts")


class MethodFacts(BaseModel):
    """What forms, charts and documents show of a method."""

    model_config = ConfigDict(frozen=True)

    kind: str
    family: Family
    name: str
    summary: str
    rate_multiple: float
    """Default learning rate, in multiples of full fine-tuning's (`app.domain.methods.rates`); a study may tune it."""
    paper: str
    formula: str
    """Number of trainable parameters, without a new head."""
    tasks: tuple[Task, ...] = EVERY_TASK


class Method(BaseModel):
    """Base of the specs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    facts: ClassVar[MethodFacts]
    mechanism: ClassVar[Mechanism]
    freezes_base: ClassVar[bool] = True
    """The base model's weights do not train, so they may be stored in a lower precision."""
    needs: ClassVar[frozenset[Capability]] = frozenset()
    """Capabilities that a worker needs, with the default settings."""
    main_setting: ClassVar[tuple[str, str] | None] = None
    """Symbol and field of the setting that its label shows."""
    unchanged: ClassVar[Unchanged | None] = None
    """Why there is no ΔW: what trains instead of weight matrices. None where matrices change."""
    unmergeable: ClassVar[Message | None] = None
    """Why no weights of the base model's own shape compute the same: a clause. None where its result can be merged."""
    without: ClassVar[Mapping[str, Message]] = {}
    """Training arguments that do not work with the method, with the reason: `packing`, `gradient_checkpointing`."""

    undistributed: ClassVar[Message | None] = None
    """Why several devices cannot train it together, as a clause; None if they can."""

    uncompiled: ClassVar[Message | None] = _("its modules were not tested in compiled blocks")
    """Why `compile_blocks` is refused, as a clause; None where a test shows equal losses."""

    @property
    def needed(self) -> frozenset[Capability]:
        """Capabilities that a worker needs, with these settings."""
        return self.needs

    @property
    def computes_in_bf16(self) -> bool:
        """Training computes in bfloat16 on every device, unless `training.bf16` says otherwise."""
        return False

    @property
    def virtual_tokens(self) -> int:
        """Positions that virtual tokens take."""
        return 0

    @property
    def label(self) -> str:
        """A short name with the main setting: `full`, `LoRA r=8`."""
        if not self.main_setting:
            return self.facts.name
        symbol, field = self.main_setting
        return f"{self.facts.name} {symbol}={getattr(self, field)}"

    def trains(self, model: TaskModel) -> list[Tensor]:
        """Every trainable parameter, with its name and shape in the adapted model."""
        raise NotImplementedError

    def own_head(self, model: TaskModel) -> list[Tensor]:
        """The head, under its own names."""
        return [Tensor(p.name, p.shape, p.name.split(".")[0]) for p in model.head_parameters]

    def touches(self, model: TaskModel) -> list[str]:
        """Names of the base model's modules that the method changes or wraps."""
        return list(dict.fromkeys(t.name.rpartition(".")[0] for t in self.trains(model)))

    def changed_layers(self, model: TaskModel) -> list[LinearFacts]:
        """The base model's linear layers whose weight matrix changes, in the order of the model."""
        return []

    def incompatibility(self, model: TaskModel) -> FieldError | None:
        """Why the method does not fit this model and task, or None. Names the real modules."""
        return next(self.problems(model), None)

    def problems(self, model: TaskModel) -> Iterator[FieldError]:
        """Every reason, each of which may assume that those before it do not apply: a task that is not supported."""
        if model.task not in self.facts.tasks:
            what = _(
                "The method %(method)s does not support the task %(task)s", method=self.facts.name, task=model.task
            )
            yield FieldError("kind", what, _("Use it for %(tasks)s", tasks=", ".join(self.facts.tasks)))

    def clash(self, training: BaseModel) -> FieldError | None:
        """An error about a training argument that does not work with the method, or None."""
        for name, why in self.without.items():
            if getattr(training, name):
                what = _(
                    "The method %(method)s does not work with %(argument)s: %(why)s",
                    method=self.facts.name,
                    argument=name,
                    why=why,
                )
                return FieldError(f"training.{name}", what, _("Set it to false, or choose another method"))
        if self.undistributed and getattr(training, "devices", 1) > 1:
            what = _(
                "The method %(method)s trains on one device only: %(why)s",
                method=self.facts.name,
                why=self.undistributed,
            )
            return FieldError("training.devices", what, _("Set it to 1, or choose another method"))
        if self.uncompiled and getattr(training, "compile_blocks", False):
            return self.not_compiled(self.uncompiled)
        return None

    def not_compiled(self, why: Message) -> FieldError:
        """The error about compiled blocks; `why` is a clause."""
        what = _("The method %(method)s does not work with compiled blocks: %(why)s", method=self.facts.name, why=why)
        return FieldError("training.compile_blocks", what, _("Set it to false, or choose another method"))

    def advice(self, model: TaskModel) -> list[FieldError]:
        """Warnings about settings that work but are questionable, such as a rank that is too high."""
        return []

    def learning_rate(self, rate: float | None = None, width: int | None = None, factor: float = 1.0) -> float:
        """The peak learning rate: the given rate, or the method's default for a base model of this width, times the
        task's factor."""
        return default_rate(factor * self.facts.rate_multiple, width) if rate is None else rate

    def rate_factor(self, name: str) -> float:
        """Factor of the learning rate for a trainable parameter."""
        return 1.0

    def trainable(self, model: TaskModel) -> int:
        return sum(t.size for t in self.trains(model))


class PeftMethod(Method):
    """A method of PEFT. `peft_type` is PEFT's name for it; its fields have the names of PEFT's config."""

    mechanism: ClassVar[Mechanism] = "peft"
    peft_type: ClassVar[str]
    wrapped: ClassVar[str] = WRAPPED
    """PEFT's name for the model that it wraps."""

    @property
    def moves_base(self) -> bool:
        """Initialization moves a part of the base model's weights into the adapter, so it does not fit the original
        base model."""
        return False

    def peft_options(self, model: TaskModel) -> dict[str, Any]:
        """Arguments of PEFT's config class, without `task_type`."""
        raise NotImplementedError

    def head_copy(self, model: TaskModel) -> list[Tensor]:
        """PEFT trains a copy of the head (`modules_to_save`) and saves it with the adapter."""
        copied = []
        for p in model.head_parameters:
            part, _, rest = p.name.partition(".")
            copied.append(Tensor(f"{self.wrapped}.{part}.modules_to_save.default.{rest}", p.shape, part))
        return copied


class LinearMethod(Method):
    """A method that adapts the linear layers named by `target_modules`.

    A list has suffixes of module names. A string is "all-linear" (the head is never adapted), "peft-default" (PEFT's
    choice for the architecture), or a regular expression for full names, as in PEFT (its syntax:
    `app.domain.models.patterns`).
    """

    transposed: ClassVar[bool] = True
    """It supports layers whose weight is stored as [in, out]: GPT-2's Conv1D."""
    target_modules: Targets = ALL_LINEAR

    def defaults(self, model: TaskModel) -> list[str]:
        """PEFT's default target modules for the architecture; empty where it has none."""
        raise NotImplementedError

    def targets(self, model: TaskModel) -> list[LinearFacts]:
        """The target modules, in the order of the model; never those of the head."""
        named = self.target_modules
        return chosen(self.defaults(model) if named == PEFT_DEFAULT else named, model.linear)

    def touches(self, model: TaskModel) -> list[str]:
        """The target modules and the head."""
        return [m.name for m in self.targets(model)] + model.head

    def changed_layers(self, model: TaskModel) -> list[LinearFacts]:
        return self.targets(model)

    def attention_only(self, model: TaskModel) -> bool:
        """Whether every target module belongs to an attention layer."""
        targets = self.targets(model)
        return bool(targets) and all(model.in_attention(m.name) for m in targets)

    def problems(self, model: TaskModel) -> Iterator[FieldError]:
        """No target module, a named one that does not exist, or a Conv1D layer (GPT-2) that the method cannot adapt."""
        yield from super().problems(model)
        real = ", ".join(short_names(model.linear))
        remedy = _('Choose from: %(modules)s, or "all-linear"', modules=real)
        if self.target_modules == PEFT_DEFAULT and not self.defaults(model):
            what = _("PEFT has no default target modules for %(model_type)s", model_type=model.model_type)
            yield FieldError("target_modules", what, remedy)
        named: Sequence[str] = self.target_modules if isinstance(self.target_modules, list) else []
        if missing := [t for t in named if not matching([t], model.linear)]:
            listed = ", ".join(repr(m) for m in missing)
            what = _(
                "%(architecture)s has no linear module %(modules)s", architecture=model.architecture, modules=listed
            )
            yield FieldError("target_modules", what, remedy)
        if not self.targets(model):
            what = _(
                "No linear module of %(architecture)s matches %(pattern)r",
                architecture=model.architecture,
                pattern=self.target_modules,
            )
            yield FieldError("target_modules", what, remedy)
        wrong = next((m for m in self.targets(model) if m.transposed and not self.transposed), None)
        if wrong is not None:
            able = ", ".join(short_names(m for m in model.linear if not m.transposed))
            what = _(
                "%(module)s is a Conv1D layer (weight [in, out]), which %(method)s cannot adapt",
                module=wrong.name,
                method=self.facts.name,
            )
            other = _("Choose from: %(names)s", names=able) if able else _("Use LoRA or (IA)³")
            yield FieldError("target_modules", what, other)


def layer(m: LinearFacts) -> str:
    """PEFT's name of an adapted layer."""
    return f"{WRAPPED}.{m.name}"


def short(m: LinearFacts) -> str:
    """The last part of a module's name."""
    return short_names([m])[0]


class Targeted(LinearMethod, PeftMethod):
    """A method of PEFT with target modules."""

    def defaults(self, model: TaskModel) -> list[str]:
        """From PEFT's table for the method."""
        return model.default_targets.get(self.peft_type.lower(), [])

    def beside(self, m: LinearFacts) -> list[Tensor]:
        """The trainable parameters of one target module."""
        raise NotImplementedError

    def trains(self, model: TaskModel) -> list[Tensor]:
        """The parameters of every target module, and the head's copy."""
        return [tensor for m in self.targets(model) for tensor in self.beside(m)] + self.head_copy(model)

    def peft_options(self, model: TaskModel) -> dict[str, Any]:
        """The fields, with full names of the target modules: a suffix such as `dense` could also match a layer of the
        head."""
        return self.model_dump(exclude={"kind"}) | {"target_modules": [m.name for m in self.targets(model)]}
