"""The study of a recipe on a base model: what depends on the model is filled in, or refused with field and remedy."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from app.domain.errors import FieldError, Invalid
from app.domain.messages import _
from app.domain.models.base_model import ModelFacts
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.tasks import Task
from app.domain.validation import field_error
from app.features.recipes.rules.recipes import ArmTemplate, Recipe

PARAMETER_TOLERANCE = 0.05
"""Largest relative difference of trainable parameters of arms that are to have as many."""


def study_of(
    recipe: Recipe, base_model: str, dataset: str, general_text: str | None, facts: ModelFacts, labels: int
) -> StudySpec:
    """A recipe's study on a base model and a dataset. Raises Invalid, with fields of the request, if it does not
    fit."""
    if recipe.study.task not in facts.tasks:
        what = _("%(model)s does not support %(task)s", model=base_model, task=recipe.study.task)
        raise Invalid.field("base_model", what, _("Choose a base model that does"))
    if recipe.study.general_text and not general_text:
        what = _("The recipe measures forgetting, which needs a dataset of general text")
        raise Invalid.field("general_text", what, _("Name a dataset of plain texts"))
    arms: dict[str, ArmSpec] = {}
    for template in recipe.study.arms:
        try:
            arms[template.name] = _fitted(template, arms, facts, recipe.study.task, labels)
        except ValidationError as error:
            why = "; ".join(field_error(details, {}).located for details in error.errors())
            what = _("The arm %(arm)r does not fit this base model: %(why)s", arm=template.name, why=why)
            raise Invalid.field("base_model", what, _("Choose another base model")) from error
    study = recipe.study.model_dump(exclude={"arms", "general_text"})
    name = f"{recipe.title} on {base_model}"[:120]
    own = {"name": name, "base_model": base_model, "dataset": dataset, "arms": list(arms.values())}
    text = {"general_text": general_text} if recipe.study.general_text else {}
    try:
        return StudySpec.model_validate(study | own | text)
    except ValidationError as error:
        raise Invalid.of([field_error(details, {}) for details in error.errors()]) from error


def _fitted(template: ArmTemplate, arms: Mapping[str, ArmSpec], facts: ModelFacts, task: Task, labels: int) -> ArmSpec:
    """An arm with what depends on the base model."""
    own: dict[str, Any] = {}
    if template.attention_only:
        own["target_modules"] = attention_modules(facts, task)
        if not own["target_modules"]:
            what = _("No linear layer of the base model is named as part of its attention")
            raise Invalid.field("base_model", what, _("Choose another base model"))
    arm = template.arm(own)
    if template.parameters_of:
        wanted = _trainable(arms[template.parameters_of], facts, task, labels)
        arm = template.arm(own | {"r": _rank(template, own, wanted, facts, task, labels)})
    return arm


def attention_modules(facts: ModelFacts, task: Task) -> list[str]:
    """The linear layers of the attention, by their names within a block, which PEFT takes as target modules."""
    model = facts.tasks[task]
    names = []
    for layer in model.linear:
        block = model.block_of(layer.name)
        if block is not None and model.in_attention(layer.name):
            names.append(layer.name.removeprefix(f"{model.blocks[block]}."))
    return list(dict.fromkeys(names))


def _trainable(arm: ArmSpec, facts: ModelFacts, task: Task, labels: int) -> int:
    """Trainable parameters without the head. Raises Invalid for a method that does not fit."""
    if error := facts.incompatibility(arm.method, task):
        raise Invalid.of([FieldError("base_model", error.message, _("Choose another base model"))])
    head = sum(parameter.size for parameter in facts.task_model(task, labels).head_parameters)
    return (facts.trainable_parameters(arm.method, task, labels) or 0) - head


def _rank(
    template: ArmTemplate, own: Mapping[str, Any], wanted: int, facts: ModelFacts, task: Task, labels: int
) -> int:
    """The rank with the nearest number of parameters. Raises Invalid if none is near enough."""
    one = _trainable(template.arm({**own, "r": 1}), facts, task, labels)
    rank = max(1, round(wanted / one))
    if abs(rank * one - wanted) > PARAMETER_TOLERANCE * wanted:
        what = _(
            "No rank gives the arm %(arm)r as many parameters as %(other)r (%(wanted)s): the nearest has %(nearest)s",
            arm=template.name,
            other=template.parameters_of,
            wanted=wanted,
            nearest=rank * one,
        )
        raise Invalid.field("base_model", what, _("Choose another base model"))
    return rank
