"""Changes of a study that would remove a cause of learning nothing. Each keeps everything else as it is."""

from typing import Literal, get_args

from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning.search_space import DimensionSpec, Parameter, bounds
from app.domain.studies.tuning.tuning import GridTuning

Remedy = Literal["steps", "learning-rate", "max-length", "labels"]
REMEDIES: tuple[Remedy, ...] = get_args(Remedy)
MORE = 4
"""Times as many steps."""
SEARCHED_LENGTHS: tuple[Parameter, ...] = ("num_train_epochs", "max_steps")
RATES = 5
"""Rates per arm, each three times its neighbour: from a ninth to nine times the arm's own."""
BLOCK = 32
"""Tokens: a longer `max_length` is a multiple of it."""


def remedied(spec: StudySpec, remedy: Remedy, long_tokens: int | None, most_tokens: int | None) -> StudySpec:
    """The study to be run again. `long_tokens` is the length that 95 % of the training rows do not exceed,
    `most_tokens` what the model reads; None where it is not known. The labels are corrected in the data: their remedy
    changes the dataset, which is then to be chosen."""
    training = spec.training
    match remedy:
        case "steps":
            arms = [arm.model_copy(update=_more_of_arm(arm)) for arm in spec.arms]
            more = _training(spec, **_more(training.max_steps, training.num_train_epochs))
            return more.model_copy(update={"arms": arms})
        case "learning-rate":
            arms = [arm.model_copy(update={"search": None}) for arm in spec.arms]
            return spec.model_copy(update={"tuning": GridTuning(rates=RATES), "arms": arms})
        case "max-length":
            return _training(spec, max_length=longer(training.max_length, long_tokens, most_tokens))
        case "labels":
            return spec.model_copy(update={"dataset": ""})


def _more(max_steps: int | None, epochs: float | None) -> dict[str, object]:
    """MORE times the steps of a budget, or of what an arm sets for itself."""
    if max_steps:
        return {"max_steps": MORE * max_steps}
    return {"num_train_epochs": MORE * epochs} if epochs else {}


def _more_of_arm(arm: ArmSpec) -> dict[str, object]:
    """What it sets for itself, and what it searches."""
    more = _more(arm.max_steps, arm.num_train_epochs)
    if arm.search is None:
        return more
    searched = {str(name): _longer(one) for name, one in arm.search.dimensions.items() if name in SEARCHED_LENGTHS}
    return more | {"search": arm.search.model_copy(update=searched)}


def _longer(dimension: DimensionSpec) -> DimensionSpec:
    if dimension.values is not None:
        return DimensionSpec(values=tuple(MORE * value for value in dimension.values))
    low, high = bounds(dimension)
    return DimensionSpec(low=MORE * low, high=MORE * high, log=dimension.log)


def _training(spec: StudySpec, **changes: object) -> StudySpec:
    """Unchecked: the form shows what is wrong with it."""
    return spec.model_copy(update={"training": spec.training.model_copy(update=changes)})


def longer(max_length: int, long_tokens: int | None, most_tokens: int | None) -> int:
    """A `max_length` that truncates at most 5 % of the training rows, or twice the present one where their lengths are
    not known; no more than the model reads."""
    wanted = -(-long_tokens // BLOCK) * BLOCK if long_tokens else 2 * max_length
    return max(max_length, min(wanted, most_tokens) if most_tokens else wanted)
