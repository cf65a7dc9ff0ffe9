"""What a curve says, in a sentence from its numbers."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from app.domain.comparison.study import StudyComparison
from app.domain.runs.smoothing import Floats
from app.domain.tasks import TASKS
from app.web.format import capitalized, join_names, memory, rate, share
from app.web.i18n import gettext as _
from app.web.i18n import ngettext

ENOUGH_STEPS = 50
"""Fewer say nothing of a trend."""
LEVEL = 0.05
"""Levelled off: over its last fifth the loss falls by less than this share of its whole fall."""
DOUBT = 2
"""Standard errors within which a trend is not told from noise."""
MOST_NAMED = 3
"""Arms in a sentence."""
Means = Mapping[str, Floats]
"""Mean over seeds by arm, unsmoothed, as it was measured."""


def curve_title(found: StudyComparison, curve: str, means: Means, words: Mapping[str, str]) -> str:
    """The takeaway; what is drawn, where there is nothing to say yet."""
    say = TITLES.get(curve)
    seen = {arm: mean for arm, mean in means.items() if np.isfinite(mean).any()}
    text = say(found, seen) if say and seen and found.complete else ""
    if text:
        return text
    plain = _("%(what)s by %(by)s", **words)
    return plain if found.complete else _("%(what)s so far", what=words["what"])


def still_falling(loss: Floats) -> bool | None:
    """Whether a loss, unsmoothed, still falls over its last fifth; None where there are too few steps to tell, or its
    noise could make it either. The noise of a step is that of neighbours' differences."""
    if len(loss) < ENOUGH_STEPS or not np.isfinite(loss).all():
        return None
    fifth = len(loss) // 5
    last, before, first = loss[-fifth:].mean(), loss[-2 * fifth : -fifth].mean(), loss[: fifth // 2].mean()
    doubt = DOUBT * np.diff(loss[-2 * fifth :]).std() / np.sqrt(fifth)
    surely = before - last - LEVEL * max(first - last, 1e-12)
    return bool(surely > 0) if abs(surely) > doubt else None


def _loss(_found: StudyComparison, means: Means) -> str:
    trends = {arm: still_falling(mean) for arm, mean in means.items()}
    falling = [arm for arm, falls in trends.items() if falls]
    level = [arm for arm, falls in trends.items() if falls is False]
    if len(level) == len(trends):
        return _("The training loss has levelled off in every arm")
    if len(falling) == len(trends):
        return _("The training loss is still falling in every arm")
    if not (falling and level):
        return ""
    text = _("%(level)s: the loss has levelled off; %(falling)s: still falling")
    return capitalized(text % {"level": _named(level, len(trends)), "falling": _named(falling, len(trends))})


def _named(arms: Sequence[str], total: int) -> str:
    """Some arms of so many, in a sentence."""
    return join_names(arms) if len(arms) <= MOST_NAMED else _("%(some)s of %(all)s arms", some=len(arms), all=total)


def _validation(found: StudyComparison, _means: Means) -> str:
    results = [run.result for run in found.runs if run.result]
    if not results:
        return ""
    early = sum(r.best_step < r.steps for r in results)
    if TASKS[found.spec.task].best_by == "loss":
        return _lowest_loss(early, len(results))
    if not early:
        return _("Every run was at its best on validation at its end")
    return ngettext(
        "In %(early)s of %(num)s run an earlier checkpoint was best on validation, and was kept",
        "In %(early)s of %(num)s runs an earlier checkpoint was best on validation, and was kept",
        len(results),
        early=early,
    )


def _lowest_loss(early: int, runs: int) -> str:
    """Where the best checkpoint is that of the lowest loss."""
    if not early:
        return _("Every run had its lowest validation loss at its end")
    return ngettext(
        "In %(early)s of %(num)s run an earlier checkpoint had the lowest validation loss, and was kept",
        "In %(early)s of %(num)s runs an earlier checkpoint had the lowest validation loss, and was kept",
        runs,
        early=early,
    )


def _gradient(found: StudyComparison, means: Means) -> str:
    """How often it lay above what it is clipped at; of the mean over seeds."""
    limit = found.spec.training.max_grad_norm
    shares = {arm: float((mean[np.isfinite(mean)] > limit).mean()) for arm, mean in means.items()}
    if not limit:
        return ""
    if not any(shares.values()):
        return _("The gradient's norm stays below %(limit)s, where it is clipped, in every arm", limit=f"{limit:g}")
    most = max(shares, key=lambda arm: shares[arm])
    text = _("%(arm)s is clipped most: its gradient's norm lies above %(limit)s in %(share)s of the steps")
    return capitalized(text % {"arm": most, "limit": f"{limit:g}", "share": share(shares[most], 1.0)})


def _rate(_found: StudyComparison, means: Means) -> str:
    return _highest(means, _("Highest learning rate: %(arms)s"), rate)


def _memory(_found: StudyComparison, means: Means) -> str:
    return _highest(means, _("Most memory after a step: %(arms)s"), memory)


def _highest(means: Means, text: str, say: Callable[[float | None], str]) -> str:
    """The largest of each arm; of many arms, the smallest and the largest of these."""
    tops = {arm: float(np.nanmax(mean)) for arm, mean in means.items()}
    named = sorted(tops, key=lambda arm: tops[arm], reverse=True)
    if len(named) > MOST_NAMED:
        named = [named[0], named[-1]]
    return text % {"arms": join_names([f"{arm} {say(tops[arm])}" for arm in named])}


TITLES: dict[str, Callable[[StudyComparison, Means], str]] = {
    "loss": _loss,
    "validation": _validation,
    "gradient": _gradient,
    "rate": _rate,
    "memory": _memory,
}
