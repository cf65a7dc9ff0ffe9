"""The takeaway of curves over training, in a sentence from their numbers."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from app.domain.comparison.study import StudyComparison
from app.domain.runs.curves.smoothing import Floats, still_falling
from app.domain.tasks import TASKS
from app.words.format import capitalized, general, join_names, memory, rate, share
from app.words.i18n import gettext as _
from app.words.i18n import ngettext

MOST_NAMED = 3
"""Arms in a sentence."""
Means = Mapping[str, Floats]
"""Mean over seeds by arm, unsmoothed, as it was measured."""


def takeaway(study: StudyComparison, curve: str, means: Means, words: Mapping[str, str]) -> str:
    """The finding; the names of both axes where there is none yet."""
    finite = {arm: mean for arm, mean in means.items() if np.isfinite(mean).any()}
    if finite and study.complete and (text := TITLES[curve](study, finite)):
        return text
    plain = _("%(what)s by %(by)s", **words)
    return plain if study.complete else _("%(what)s so far", what=words["what"])


def _loss(_study: StudyComparison, means: Means) -> str:
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


def _validation(study: StudyComparison, _means: Means) -> str:
    results = [run.result for run in study.runs if run.result]
    if not results:
        return ""
    by_loss = TASKS[study.spec.task].best_by == "loss"
    best = _("lowest validation loss") if by_loss else _("best validation score")
    early = sum(r.best_step < r.steps for r in results)
    if not early:
        return _("Every run had its %(best)s at the end", best=best)
    return ngettext(
        "In %(early)s of %(num)s run an earlier checkpoint had the %(best)s, and was kept",
        "In %(early)s of %(num)s runs an earlier checkpoint had the %(best)s, and was kept",
        len(results),
        early=early,
        best=best,
    )


def _gradient(study: StudyComparison, means: Means) -> str:
    """How often the mean over seeds lay above the maximum."""
    limit = study.spec.training.max_grad_norm
    if not limit:
        return ""
    shares = {arm: float((mean[np.isfinite(mean)] > limit).mean()) for arm, mean in means.items()}
    if not any(shares.values()):
        return _("The gradient norm stays below the maximum of %(limit)s in every arm", limit=general(limit))
    most = max(shares, key=lambda arm: shares[arm])
    text = _("%(arm)s is clipped most: its gradient norm exceeds %(limit)s in %(share)s of the steps")
    return capitalized(text % {"arm": most, "limit": general(limit), "share": share(shares[most], 1.0)})


def _rate(_study: StudyComparison, means: Means) -> str:
    return _highest(means, _("Highest learning rate: %(arms)s"), rate)


def _memory(_study: StudyComparison, means: Means) -> str:
    return _highest(means, _("Highest memory after a step: %(arms)s"), memory)


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
