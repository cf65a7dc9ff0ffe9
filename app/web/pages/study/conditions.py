"""What a study's arms were run under: what differed, and what was the same."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from app.domain.comparison.fairness.confounders import ConditionName
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.data.dataset import fraction_of
from app.domain.runs.training import TrainingBudget
from app.domain.studies.tuning.search_space import Parameter
from app.domain.tasks import TASKS
from app.store.tables import BaseModelRow, DatasetRow
from app.words.format import NOTHING, count, general, rate, share
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs.metrics import title
from app.words.studies.arms import condition_label, condition_value, trains
from app.words.studies.tuning import together_text

VERSIONS: tuple[ConditionName, ...] = ("torch", "transformers", "peft", "vezna")
SHOWN_ELSEWHERE = ("kind", "target_modules")
"""Fields of a method that the arms' names and what they train show already."""


T = TypeVar("T")


class Setting(NamedTuple):
    """A row of the table of differences: a value for each arm."""

    name: str
    code: bool
    """Whether the label is an argument's name, set in monospace."""
    values: tuple[str, ...]


@dataclass(frozen=True)
class StudyConditions:
    """The settings and measuring conditions of a study's arms, compared."""

    study: StudyComparison
    model: BaseModelRow | None
    dataset: DatasetRow | None

    @property
    def chosen(self) -> list[Setting]:
        """Settings that each arm chooses for itself."""
        study, model = self.study, self.model.facts if self.model else None
        return [
            Setting(_("trains"), False, tuple(trains(arm, model, study.spec.task) for arm in study.arms)),
            *_method_fields(study),
            Setting("learning_rate", True, tuple(map(_rate, study.arms))),
            *_frozen(study),
            *_stopped(study),
        ]

    @property
    def differing(self) -> list[Setting]:
        """Conditions that should be equal but differ."""
        return [
            Setting(
                condition_label(condition.name),
                False,
                tuple(condition_value(condition.values.get(arm.title, "")) for arm in self.study.arms),
            )
            for condition in self.study.conditions
            if not condition.equal
        ]

    @property
    def shared(self) -> list[tuple[str, str]]:
        """Name and value of what is the same for all arms: of the spec, then of the results."""
        return [*_of_spec(self.study, self.model, self.dataset), *_of_results(self.study)]

    @property
    def about(self) -> str:
        """What was compared, in a line."""
        fraction = _common(self.study, lambda training: training.train_fraction)
        rows = fraction_of(self.dataset.facts.counts["train"], fraction or 1) if self.dataset is not None else 0
        trained_on = ngettext("%(count)s training row", "%(count)s training rows", rows, count=count(rows))
        return _(
            "%(model)s on %(data)s: %(rows)s, %(length)s",
            model=self.study.spec.base_model,
            data=self.dataset.shown if self.dataset is not None else self.study.spec.dataset,
            rows=_("training rows by arm") if fraction is None else trained_on,
            length=_length(self.study),
        )


def _rate(arm: StudyArm) -> str:
    return rate(arm.learning_rate) if arm.tuning is None or arm.tuning.chosen is not None else NOTHING


def _frozen(study: StudyComparison) -> Iterator[Setting]:
    """The precision of frozen weights, where that was not float32 throughout."""
    by_arm = [{r.result.environment.frozen_dtype for r in arm.runs if r.result} for arm in study.arms]
    if set().union(*by_arm) - {"float32"}:
        cells = (
            ", ".join(sorted(dtypes)) if _freezes(arm) else NOTHING
            for arm, dtypes in zip(study.arms, by_arm, strict=True)
        )
        yield Setting(_("frozen weights"), False, tuple(cells))


def _stopped(study: StudyComparison) -> Iterator[Setting]:
    if study.spec.training.early_stopping_patience and any(arm.costs for arm in study.arms):
        by_arm = ([run.result.steps for run in arm.runs if run.result] for arm in study.arms)
        yield Setting(_("steps until early stopping"), False, tuple(_range(steps) for steps in by_arm))


def _range(numbers: Sequence[int]) -> str:
    if len(set(numbers)) > 1:
        return _("%(least)s to %(most)s", least=count(min(numbers)), most=count(max(numbers)))
    return count(numbers[0]) if numbers else NOTHING


def _freezes(arm: StudyArm) -> bool:
    """It has results, and something in them that did not train."""
    return arm.costs is not None and arm.costs.trainable_parameters < arm.costs.total_parameters


def _method_fields(study: StudyComparison) -> Iterator[Setting]:
    """Fields of the methods that differ between the arms that have them, or from their default."""
    methods = [arm.settled.method for arm in study.arms]
    defaults: dict[str, Any] = {}
    for method in methods:
        defaults |= {name: field.default for name, field in type(method).model_fields.items()}
    for name in defaults:
        values = [getattr(method, name, None) for method in methods]
        if name not in SHOWN_ELSEWHERE and any(value is not None and value != defaults[name] for value in values):
            yield Setting(name, True, tuple(_written(value) for value in values))


def _written(value: object) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return rate(value) if isinstance(value, float) else NOTHING if value is None else str(value)


def _length(study: StudyComparison) -> str:
    common = _common(
        study, lambda t: (t.max_steps, 0.0 if t.max_steps else t.num_train_epochs), "num_train_epochs", "max_steps"
    )
    if common is None:
        return _("steps by arm")
    steps, epochs = common
    if steps:
        return ngettext("%(num)s step", "%(num)s steps", steps)
    return ngettext("%(epochs)s epoch", "%(epochs)s epochs", 1 if epochs == 1 else 2, epochs=general(epochs))


def _common(study: StudyComparison, value: Callable[[TrainingBudget], T], *searched: Parameter) -> T | None:
    """What all arms train with, as they override it and as their searches chose it. None where they differ, or while an
    arm still searches one of these hyperparameters."""
    arms = [arm for arm in study.arms if not arm.untrainable] or study.arms
    searches = [arm.tuning.space.dimensions for arm in arms if arm.tuning and arm.tuning.chosen is None]
    if any(name in dimensions for dimensions in searches for name in searched):
        return None
    values = {value(study.spec.training_of(arm.settled)) for arm in arms}
    return values.pop() if len(values) == 1 else None


def _of_spec(study: StudyComparison, model: BaseModelRow | None, dataset: DatasetRow | None) -> list[tuple[str, str]]:
    """What the study's spec sets for all arms."""
    spec, training = study.spec, study.spec.training
    revision = model.pinned if model else ""
    base = ", ".join([spec.base_model, *([revision[:8]] if revision else [])])
    data = spec.dataset
    if dataset is not None:
        counts = dataset.facts.counts
        data = _(
            "%(name)s, sha256 %(hash)s…: %(train)s train, %(validation)s validation, %(test)s test",
            name=dataset.shown,
            hash=dataset.content_hash[:8],
            train=count(counts["train"]),
            validation=count(counts["validation"]),
            test=count(counts["test"]),
        )
    batch = _common(study, lambda t: t.per_device_train_batch_size * t.gradient_accumulation_steps, "batch_size")
    warmup = _common(study, lambda t: t.warmup_steps, "warmup_steps")
    fraction = _common(study, lambda t: t.train_fraction)
    known = {
        "length": _length(study),
        "batch": _("by arm") if batch is None else count(batch),
        "seeds": " ".join(str(seed) for seed in spec.seeds),
    }
    tokens = count(training.max_length)
    budget = _(
        "%(length)s, batch size %(batch)s, max length %(tokens)s tokens, seeds %(seeds)s", **known, tokens=tokens
    )
    if TASKS[spec.task].reads == "images":
        budget = _("%(length)s, batch size %(batch)s, seeds %(seeds)s", **known)
    schedule = _(
        "%(kind)s, warmup %(warmup)s, max gradient norm %(norm)s",
        kind=training.lr_scheduler_type,
        warmup=_("by arm") if warmup is None else general(warmup),
        norm=general(training.max_grad_norm),
    )
    others = [(_("Forgetting on"), spec.general_text)] if spec.general_text else []
    if spec.train_together != "none":
        others.append((_("Train together"), together_text(spec.train_together)))
    if fraction is not None and fraction < 1:
        data = _("%(data)s; %(share)s of the training rows", data=data, share=share(fraction, 1))
    return [
        (_("Base model"), base),
        (_("Task"), _("%(task)s, by %(metric)s", task=_(TASKS[spec.task].title), metric=title(study.metric))),
        (_("Data"), data),
        *others,
        (_("Budget"), budget),
        (_("Schedule"), schedule),
    ]


def _of_results(study: StudyComparison) -> list[tuple[str, str]]:
    """Conditions that the results of all arms share."""
    equal = {c.name: c.value for c in study.conditions if c.equal and c.value}
    pairs = [
        (condition_label(name).capitalize(), condition_value(value))
        for name, value in equal.items()
        if name not in VERSIONS
    ]
    versions = [f"{name} {equal[name]}" for name in VERSIONS if name in equal]
    return [*pairs, *([(_("Versions"), ", ".join(versions))] if versions else [])]
