"""The wording of flips: kinds of items, the rule by which items are sorted, quarters and confidence bands."""

from app.domain.comparison.flips import STEP, FlipKind, Flips
from app.domain.comparison.study import StudyComparison
from app.words.format import count, decimal, percent
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs.metrics import title


def kind_title(kind: FlipKind, arm: str, flips: Flips) -> str:
    """What happened to an item of that kind: `full right, LoRA r=8 wrong`."""
    values = {
        "arm": arm,
        "other": _("base model") if kind in (FlipKind.GAINED, FlipKind.LOST) else flips.reference,
    }
    match kind, flips.graded:
        case FlipKind.WORSE | FlipKind.LOST, False:
            return _("%(other)s right, %(arm)s wrong", **values)
        case FlipKind.BETTER | FlipKind.GAINED, False:
            return _("%(other)s wrong, %(arm)s right", **values)
        case FlipKind.WORSE | FlipKind.LOST, True:
            return _("%(arm)s worse than %(other)s", **values)
        case FlipKind.BETTER | FlipKind.GAINED, True:
            return _("%(arm)s better than %(other)s", **values)
        case FlipKind.BOTH_WRONG, False:
            return _("%(other)s and %(arm)s wrong", **values)
        case FlipKind.BOTH_WRONG, True:
            return _("%(other)s and %(arm)s at most half", **values)
        case FlipKind.ALL_WRONG, False:
            return _("every arm wrong")
        case FlipKind.ALL_WRONG, True:
            return _("every arm at most half")
        case FlipKind.SEEDS_DIFFER, _graded:
            return _("seeds of %(arm)s differ", arm=arm)
        case _:
            return _("all items")


def rule(comparison: StudyComparison, flips: Flips, seed: int | None) -> str:
    """How items are sorted: by which seeds, and what counts as right."""
    metric = title(comparison.metric)
    seeds = max((len(judged.runs) for judged in flips.arms.values()), default=0)
    if flips.graded:
        step = decimal(STEP * 100, 0)
        by = (
            _("of seed %(seed)s", seed=seed)
            if seed is not None
            else ngettext("of its one seed", "averaged over its %(num)s seeds", seeds)
        )
        return _(
            "Each item has a score, %(metric)s %(by)s. Better and worse mean more than %(step)s points of difference; "
            "at most half means a score of 50 %% or less.",
            metric=metric,
            by=by,
            step=step,
        )
    if seed is not None:
        return _("Seed %(seed)s alone: an item is right or wrong by its %(metric)s.", seed=seed, metric=metric)
    if seeds <= 1:
        return _("One seed: an item is right or wrong by its %(metric)s.", metric=metric)
    return _(
        "An arm gets an item right when more than half of its %(seeds)s seeds do; so does the base model.",
        seeds=seeds,
    )


def quarter_title(quarter: int, edges: tuple[int, int, int]) -> str:
    """`up to 38 characters`, `39 to 62`, `over 88`."""
    if quarter == 0:
        return _("shortest quarter, up to %(most)s characters", most=count(edges[0]))
    if quarter == 3:
        return _("longest quarter, over %(least)s characters", least=count(edges[2]))
    return _("%(least)s to %(most)s characters", least=count(edges[quarter - 1] + 1), most=count(edges[quarter]))


def band_title(band: int, edges: tuple[float, ...]) -> str:
    """`below 50 %`, `50 to 80 %`, `95 % and more`."""
    if band < 0:
        return _("unknown")
    if band == 0:
        return _("below %(share)s", share=percent(edges[0], 0))
    if band == len(edges):
        return _("%(share)s and more", share=percent(edges[-1], 0))
    return _("%(low)s to %(high)s", low=decimal(edges[band - 1] * 100, 0), high=percent(edges[band], 0))


SHOWN = 240
"""Characters of a long text that are shown; the rest is behind a disclosure."""


def clamp(text: str) -> tuple[str, str]:
    """The beginning of a text, cut between words, and the rest; a text that is a little longer stays whole."""
    if len(text) <= SHOWN * 5 // 4:
        return text, ""
    cut = text.rfind(" ", SHOWN // 2, SHOWN)
    cut = SHOWN if cut < 0 else cut
    return text[:cut], text[cut:].lstrip()


FILTERS = (kind_title, clamp)
