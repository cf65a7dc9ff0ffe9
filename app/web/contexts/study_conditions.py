"""What a study's arms were run under: what differed, and what was the same."""

from dataclasses import dataclass

from app.domain.comparison import Comparison
from app.store.tables import BaseModelRow, DatasetRow
from app.web.i18n import gettext as _
from app.web.numbers import count, rate
from app.web.words.arms import condition, condition_value, trains

VERSIONS = ("torch", "transformers", "peft")


@dataclass(frozen=True)
class Setting:
    """A row of the table of differences: a value for each arm."""

    name: str
    code: bool
    """It is an argument's name, set in monospace."""
    values: tuple[str, ...]


@dataclass(frozen=True)
class StudyConditions:
    """Held against each other."""

    arms: tuple[str, ...]
    own: tuple[Setting, ...]
    """What each arm chose for itself."""
    differing: tuple[Setting, ...]
    """What should have been the same, and was not."""
    same: tuple[tuple[str, str], ...]
    """Name and value."""

    @classmethod
    def of(cls, found: Comparison, model: BaseModelRow | None, dataset: DatasetRow | None) -> "StudyConditions":
        """From a comparison, its base model and its dataset."""
        titles = tuple(arm.title for arm in found.arms)
        return cls(
            arms=titles,
            own=_own(found),
            differing=tuple(
                Setting(condition(c.name), False, tuple(condition_value(c.values.get(title, "")) for title in titles))
                for c in found.conditions
                if not c.equal
            ),
            same=(*_promised(found, model, dataset), *_seen(found)),
        )


def _own(found: Comparison) -> tuple[Setting, ...]:
    settings = [
        Setting(_("trains"), False, tuple(trains(arm) for arm in found.arms)),
        Setting("learning_rate", True, tuple(rate(arm.learning_rate) for arm in found.arms)),
    ]
    if any(arm.spec.weight_decay is not None for arm in found.arms):
        usual = found.spec.training.weight_decay
        decays = (usual if arm.spec.weight_decay is None else arm.spec.weight_decay for arm in found.arms)
        settings.append(Setting("weight_decay", True, tuple(rate(decay) for decay in decays)))
    return tuple(settings)


def _promised(found: Comparison, model: BaseModelRow | None, dataset: DatasetRow | None) -> list[tuple[str, str]]:
    """What the study's spec gives to all."""
    spec, training = found.spec, found.spec.training
    facts = model.facts if model else None
    revision = (facts.revision if facts else "") or (model.revision if model else "")
    base = ", ".join([spec.base_model, *([revision[:8]] if revision else [])])
    data = spec.dataset
    if dataset is not None:
        counts = dataset.facts.counts
        data = _(
            "%(name)s, sha256 %(hash)s…: %(train)s train, %(validation)s validation, %(test)s test",
            name=dataset.title or dataset.name,
            hash=dataset.content_hash[:8],
            train=count(counts["train"]),
            validation=count(counts["validation"]),
            test=count(counts["test"]),
        )
    length = (
        _("%(steps)s steps", steps=count(training.max_steps))
        if training.max_steps
        else _("%(epochs)s epochs", epochs=f"{training.num_train_epochs:g}")
    )
    budget = _(
        "%(length)s, batch %(batch)s, at most %(tokens)s tokens a row, seeds %(seeds)s",
        length=length,
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
    return [(_("Base model"), base), (_("Data"), data), (_("Budget"), budget), (_("Schedule"), schedule)]


def _seen(found: Comparison) -> list[tuple[str, str]]:
    """What the results say of all."""
    equal = {c.name: c.value for c in found.conditions if c.equal and c.value}
    pairs = [
        (condition(name).capitalize(), condition_value(value)) for name, value in equal.items() if name not in VERSIONS
    ]
    versions = [f"{name} {equal[name]}" for name in VERSIONS if name in equal]
    return [*pairs, *([(_("Versions"), ", ".join(versions))] if versions else [])]
