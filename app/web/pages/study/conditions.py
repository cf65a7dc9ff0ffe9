"""What a study's arms were run under: what differed, and what was the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.domain.comparison.confounders import ConditionName
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.models.base_model import ModelFacts
from app.domain.runs.training import TrainingBudget
from app.domain.tasks import TASKS
from app.store.tables import BaseModelRow, DatasetRow
from app.web.format import NOTHING, count, rate
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.arms import condition_label, condition_value, trains
from app.web.text.metrics import title

VERSIONS: tuple[ConditionName, ...] = ("torch", "transformers", "peft", "vezna")
TOLD = ("kind", "target_modules")
"""Fields of a method that the arms' names and what they train say already."""


@dataclass(frozen=True)
class Setting:
    """A row of the table of differences: a value for each arm."""

    name: str
    code: bool
    """Whether the label is an argument's name, set in monospace."""
    values: tuple[str, ...]


@dataclass(frozen=True)
class StudyConditions:
    """The settings and measuring conditions of a study's arms, compared."""

    arms: tuple[str, ...]
    own: tuple[Setting, ...]
    """Settings that each arm chooses for itself."""
    differing: tuple[Setting, ...]
    """Settings that should be equal but differ."""
    same: tuple[tuple[str, str], ...]
    """Name and value."""
    about: str
    """What was weighed, in a line."""

    @classmethod
    def of(cls, found: StudyComparison, model: BaseModelRow | None, dataset: DatasetRow | None) -> "StudyConditions":
        """From a comparison, its base model and its dataset."""
        titles = tuple(arm.title for arm in found.arms)
        return cls(
            arms=titles,
            own=_own(found, model.facts if model else None),
            differing=tuple(
                Setting(
                    condition_label(c.name), False, tuple(condition_value(c.values.get(title, "")) for title in titles)
                )
                for c in found.conditions
                if not c.equal
            ),
            same=(*_promised(found, model, dataset), *_seen(found)),
            about=_about(found, dataset),
        )


def _own(found: StudyComparison, model: ModelFacts | None) -> tuple[Setting, ...]:
    return (
        Setting(_("trains"), False, tuple(trains(arm, model, found.spec.task) for arm in found.arms)),
        *_method_fields(found),
        Setting("learning_rate", True, tuple(map(_rate, found.arms))),
        *_frozen(found),
        *_stopped(found),
    )


def _rate(arm: StudyArm) -> str:
    return rate(arm.learning_rate) if arm.tuning is None or arm.tuning.chosen is not None else NOTHING


def _frozen(found: StudyComparison) -> Iterator[Setting]:
    """What frozen weights were held in, where that was not float32 throughout."""
    seen = [{r.result.environment.frozen_dtype for r in arm.runs if r.result} for arm in found.arms]
    if set().union(*seen) - {"float32"}:
        held = (
            ", ".join(sorted(dtypes)) if _freezes(arm) else NOTHING
            for arm, dtypes in zip(found.arms, seen, strict=True)
        )
        yield Setting(_("frozen weights"), False, tuple(held))


def _stopped(found: StudyComparison) -> Iterator[Setting]:
    """Where early stopping ended the runs."""
    if found.spec.training.early_stopping_patience and any(arm.costs for arm in found.arms):
        taken = ([run.result.steps for run in arm.runs if run.result] for arm in found.arms)
        yield Setting(_("steps until early stopping"), False, tuple(_range(steps) for steps in taken))


def _range(numbers: Sequence[int]) -> str:
    if len(set(numbers)) > 1:
        return _("%(least)s to %(most)s", least=count(min(numbers)), most=count(max(numbers)))
    return count(numbers[0]) if numbers else NOTHING


def _freezes(arm: StudyArm) -> bool:
    """It has results, and something in them that did not train."""
    return arm.costs is not None and arm.costs.trainable_parameters < arm.costs.total_parameters


def _method_fields(found: StudyComparison) -> Iterator[Setting]:
    """Fields of the methods that differ between the arms that have them, or are not as usual."""
    methods = [arm.spec.method for arm in found.arms]
    usual: dict[str, Any] = {}
    for method in methods:
        usual |= {name: field.default for name, field in type(method).model_fields.items()}
    for name in usual:
        values = [getattr(method, name, None) for method in methods]
        if name not in TOLD and any(value is not None and value != usual[name] for value in values):
            yield Setting(name, True, tuple(_written(value) for value in values))


def _written(value: object) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return rate(value) if isinstance(value, float) else NOTHING if value is None else str(value)


def _about(found: StudyComparison, dataset: DatasetRow | None) -> str:
    rows = dataset.facts.counts["train"] if dataset is not None else 0
    return _(
        "%(model)s on %(data)s: %(rows)s, %(length)s",
        model=found.spec.base_model,
        data=dataset.shown if dataset is not None else found.spec.dataset,
        rows=ngettext("%(count)s training row", "%(count)s training rows", rows, count=count(rows)),
        length=_length(found.spec.training),
    )


def _length(training: TrainingBudget) -> str:
    """How long a run trains."""
    if training.max_steps:
        return ngettext("%(num)s step", "%(num)s steps", training.max_steps)
    epochs = training.num_train_epochs
    return ngettext("%(epochs)s epoch", "%(epochs)s epochs", 1 if epochs == 1 else 2, epochs=f"{epochs:g}")


def _promised(found: StudyComparison, model: BaseModelRow | None, dataset: DatasetRow | None) -> list[tuple[str, str]]:
    """What the study's spec gives to all."""
    spec, training = found.spec, found.spec.training
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
    budget = _(
        "%(length)s, batch %(batch)s, at most %(tokens)s tokens a row, seeds %(seeds)s",
        length=_length(training),
        batch=count(training.per_device_train_batch_size * training.gradient_accumulation_steps),
        tokens=count(training.max_length),
        seeds=" ".join(str(seed) for seed in spec.seeds),
    )
    schedule = _(
        "%(kind)s, warm-up %(warmup)s, clipped at %(norm)s",
        kind=training.lr_scheduler_type,
        warmup=f"{training.warmup_steps:g}",
        norm=f"{training.max_grad_norm:g}",
    )
    general = [(_("Forgetting on"), spec.general_text)] if spec.general_text else []
    return [
        (_("Base model"), base),
        (_("Task"), _("%(task)s, by %(metric)s", task=_(TASKS[spec.task].title), metric=title(found.metric))),
        (_("Data"), data),
        *general,
        (_("Budget"), budget),
        (_("Schedule"), schedule),
    ]


def _seen(found: StudyComparison) -> list[tuple[str, str]]:
    """What the results say of all."""
    equal = {c.name: c.value for c in found.conditions if c.equal and c.value}
    pairs = [
        (condition_label(name).capitalize(), condition_value(value))
        for name, value in equal.items()
        if name not in VERSIONS
    ]
    versions = [f"{name} {equal[name]}" for name in VERSIONS if name in equal]
    return [*pairs, *([(_("Versions"), ", ".join(versions))] if versions else [])]
