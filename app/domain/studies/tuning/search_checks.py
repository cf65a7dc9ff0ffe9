"""Search spaces that contradict the method, the budget or the tuning, found before anything is queued."""

from collections.abc import Callable, Sequence
from math import isfinite

from pydantic import ValidationError

from app.domain.errors import FieldError
from app.domain.messages import _
from app.domain.runs.training import MAX_LEARNING_RATE
from app.domain.studies.arms import ArmSpec
from app.domain.studies.tuning.search_space import Configuration, SearchSpace, from_values
from app.domain.studies.tuning.tuning import (
    MOST_TRIALS,
    AnyTuning,
    GridTuning,
    HalvingTuning,
    NoTuning,
    RandomTuning,
    Search,
    TpeTuning,
)
from app.domain.validation import field_error


def space_of(tuning: AnyTuning, arm: ArmSpec) -> SearchSpace:
    """What an arm's trials vary: its own space, or the learning rate. Empty without tuning."""
    if isinstance(tuning, NoTuning):
        return SearchSpace()
    return arm.search or tuning.usual_space(arm.rate)


def search_problem(
    tuning: AnyTuning,
    arms: Sequence[ArmSpec],
    arm: ArmSpec,
    try_out: Callable[[ArmSpec, Configuration], object],
) -> FieldError | None:
    """Why one of a study's arms cannot be searched, or None. `try_out` builds a run; it raises pydantic's
    ValidationError."""
    if isinstance(tuning, NoTuning):
        if arm.search is None:
            return None
        what = _("The arm %(title)r has a search space, but the study tunes none", title=arm.title)
        return FieldError("search", what, _("Set tuning to grid, random, halving or tpe, or remove the search"))
    space = space_of(tuning, arm)
    if arm.search is None and (most := max(value for _name, value in space.extremes())) > MAX_LEARNING_RATE:
        what = _("The largest learning rate that the arm %(title)r would try is %(most)g", title=arm.title, most=most)
        return FieldError(
            "learning_rate", what, _("Lower it to at most %(limit)g, or give a search space", limit=MAX_LEARNING_RATE)
        )
    for name, value in space.extremes():
        try:
            try_out(arm, from_values({name: value}))
        except ValidationError as error:
            reason = field_error(error.errors()[0], {})
            what = _("%(name)s = %(value)g is not possible: %(reason)s", name=name, value=value, reason=reason.message)
            return FieldError(f"search.{name}", what, reason.remedy or _("Change the values to search"))
    return _size_problem(tuning, [space_of(tuning, other) for other in arms], arm, space)


def _size_problem(tuning: Search, spaces: Sequence[SearchSpace], arm: ArmSpec, space: SearchSpace) -> FieldError | None:
    """A space that does not fill the budget which every arm gets."""
    match tuning:
        case GridTuning():
            size, sizes = space.grid_size(tuning.rates), [other.grid_size(tuning.rates) for other in spaces]
            if size > MOST_TRIALS:
                what = _("The grid of the arm %(title)r has %(size)s combinations", title=arm.title, size=size)
                return FieldError("search", what, _("Use at most %(most)s, or random or tpe", most=MOST_TRIALS))
            possible = [other for other in sizes if other <= MOST_TRIALS]
            wanted = tuning.rates if all(other.only_rates for other in spaces) else max(possible)
        case HalvingTuning():
            wanted = tuning.rates
            size = space.grid_size(wanted) if space.only_rates else _drawn(space, wanted, tuning.seed)
        case RandomTuning() | TpeTuning():
            wanted = tuning.configurations or 2
            size = _drawn(space, wanted, tuning.seed)
    if size == wanted:
        return None
    path = "search.learning_rate" if space.only_rates else "search"
    what = _(
        "The arm %(title)r tries %(size)s configurations, but every arm gets the same tuning budget of %(wanted)s",
        title=arm.title,
        size=size,
        wanted=wanted,
    )
    if isinstance(tuning, RandomTuning | TpeTuning):
        return FieldError(path, what, _("Widen the search space, or lower the budget of all arms"))
    if space.only_rates and wanted == tuning.rates:
        return FieldError(
            path, what, _("List %(wanted)s, or set tuning.rates to %(size)s for all arms", wanted=wanted, size=size)
        )
    return FieldError(path, what, _("Give every arm as many combinations, or use random or tpe"))


def _drawn(space: SearchSpace, count: int, seed: int) -> int:
    """How many configurations a search can draw, up to `count`: a narrow range has few values of three digits."""
    return int(min(space.size, count)) if isfinite(space.size) else len(space.draw(count, seed))
