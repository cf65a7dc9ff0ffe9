"""Small studies that the Lab starts with one button, on the packaged sample."""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy.orm import Session

from app.domain.errors import Conflict, Invalid, NotFound
from app.domain.messages import _
from app.domain.methods import SPECS, AnyMethod, FullSpec, LoraSpec
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.tasks import DEFAULT_TASK
from app.features.lab.rules.techniques import technique
from app.services.data import datasets as dataset_service
from app.services.data import samples

FULL_OR_LORA, TECHNIQUES, RANKS = "full-or-lora", "techniques", "ranks"
SEEDS = "seeds"
LADDER = (2, 8, 32, 128)
"""Ranks of the study of ranks."""
MOST_METHODS = 6
"""Of a study of techniques, so that it ends within two minutes."""
BUDGET = TrainingBudget(num_train_epochs=1, per_device_train_batch_size=16, max_length=64)
"""One epoch of 1,300 headlines: about ten seconds a run on two cores."""
PLANS: Mapping[str, tuple[str, Callable[[], Sequence[AnyMethod]], int]] = {
    FULL_OR_LORA: ("Lab: full fine-tuning and LoRA", lambda: (FullSpec(), LoraSpec(r=8, lora_alpha=16)), 2),
    RANKS: ("Lab: a ladder of ranks", lambda: [LoraSpec(r=rank, lora_alpha=2 * rank) for rank in LADDER], 1),
    SEEDS: ("Lab: one method, three seeds", lambda: [LoraSpec(r=8, lora_alpha=16)], 3),
}
"""By name: the study's name, its methods, and its number of seeds."""


def spec(session: Session, plan: str, kinds: Sequence[str] = ()) -> StudySpec:
    """A study of the Lab; `kinds` are the methods of the study of techniques. Raises NotFound for an unknown plan,
    Conflict while the sample is not ready, and Invalid for methods that are none, or too many."""
    if plan == TECHNIQUES:
        return of_methods(session, "Lab: techniques of PEFT", _techniques(session, kinds), 1)
    if plan not in PLANS:
        raise NotFound(_("There is no study %(name)s in the Lab.", name=plan))
    name, methods, seeds = PLANS[plan]
    return of_methods(session, name, methods(), seeds)


def _techniques(session: Session, kinds: Sequence[str]) -> list[AnyMethod]:
    """Full fine-tuning as the reference, and the chosen methods."""
    row = samples.registered(session).model
    facts = row.facts if row else None
    model = facts.tasks.get(DEFAULT_TASK) if facts else None
    chosen = [kind for kind in kinds if kind in SPECS and kind != "full"]
    if not chosen or len(chosen) > MOST_METHODS:
        what = _("%(count)s techniques are chosen", count=len(chosen))
        raise Invalid.field("kind", what, _("Choose from 1 to %(most)s", most=MOST_METHODS))
    return [FullSpec(), *(technique(kind, model) for kind in chosen if model)]


def of_methods(session: Session, name: str, methods: Sequence[AnyMethod], seeds: int) -> StudySpec:
    """A study of methods on the sample; the first is the reference. Raises Conflict while the sample is not ready."""
    sample = samples.registered(session)
    if sample.model is None or sample.dataset is None or not sample.ready:
        raise Conflict(_("The sample is not ready yet. Prepare it on the page of the step."))
    arms = [ArmSpec(method=method) for method in methods]
    return StudySpec(
        name=name,
        base_model=sample.model.name,
        dataset=dataset_service.shortest_reference(session, sample.dataset),
        arms=arms,
        seeds=list(range(seeds)),
        training=BUDGET,
        reference=arms[0].title,
        margin_points=2.0,
    )
