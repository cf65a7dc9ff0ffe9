"""Flips in words: what a kind of item is called, by which rule items are sorted, and what a model answered."""

from app.domain.comparison.flips import STEP, FlipKind, Flips
from app.domain.comparison.study import StudyComparison
from app.web.format import count, decimal, percent
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.metrics import title


def kind_title(kind: FlipKind, arm: str, reference: str, *, graded: bool) -> str:
    """`full right, LoRA r=8 wrong`: what happened to an item of that kind."""
    names = {"arm": arm, "reference": reference}
    match kind, graded:
        case FlipKind.WORSE, False:
            return _("%(reference)s right, %(arm)s wrong", **names)
        case FlipKind.WORSE, True:
            return _("%(arm)s worse than %(reference)s", **names)
        case FlipKind.BETTER, False:
            return _("%(reference)s wrong, %(arm)s right", **names)
        case FlipKind.BETTER, True:
            return _("%(arm)s better than %(reference)s", **names)
        case FlipKind.GAINED, False:
            return _("untouched wrong, %(arm)s right", **names)
        case FlipKind.GAINED, True:
            return _("%(arm)s better than untouched", **names)
        case FlipKind.LOST, False:
            return _("untouched right, %(arm)s wrong", **names)
        case FlipKind.LOST, True:
            return _("%(arm)s worse than untouched", **names)
        case FlipKind.BOTH_WRONG, False:
            return _("%(reference)s and %(arm)s wrong", **names)
        case FlipKind.BOTH_WRONG, True:
            return _("%(reference)s and %(arm)s at most half", **names)
        case FlipKind.ALL_WRONG, False:
            return _("every arm wrong")
        case FlipKind.ALL_WRONG, True:
            return _("every arm at most half")
        case FlipKind.SEEDS_DIFFER, _graded:
            return _("seeds of %(arm)s differ", **names)
        case _:
            return _("every item")


def head(kind: FlipKind, reference: str, *, graded: bool) -> str:
    """Below `Test items that`: what a column counts, `full gets right and the arm wrong`."""
    match kind, graded:
        case FlipKind.WORSE, False:
            return _("%(reference)s gets right and the arm wrong", reference=reference)
        case FlipKind.WORSE, True:
            return _("the arm answers worse than %(reference)s", reference=reference)
        case FlipKind.BETTER, False:
            return _("%(reference)s gets wrong and the arm right", reference=reference)
        case FlipKind.BETTER, True:
            return _("the arm answers better than %(reference)s", reference=reference)
        case FlipKind.GAINED, False:
            return _("the untouched model gets wrong and the arm right")
        case FlipKind.GAINED, True:
            return _("the arm answers better than the untouched model")
        case FlipKind.LOST, False:
            return _("the untouched model gets right and the arm wrong")
        case FlipKind.LOST, True:
            return _("the arm answers worse than the untouched model")
        case FlipKind.BOTH_WRONG, False:
            return _("both %(reference)s and the arm get wrong", reference=reference)
        case FlipKind.BOTH_WRONG, True:
            return _("%(reference)s and the arm both answer at most half right", reference=reference)
        case FlipKind.ALL_WRONG, False:
            return _("every arm gets wrong")
        case FlipKind.ALL_WRONG, True:
            return _("every arm answers at most half right")
        case FlipKind.SEEDS_DIFFER, False:
            return _("some seeds of the arm get right, others wrong")
        case FlipKind.SEEDS_DIFFER, True:
            return _("seeds of the arm answer better and worse")
        case _:
            return _("there are in all")


def rule(found: StudyComparison, flips: Flips, seed: int | None) -> str:
    """How it is decided where an item belongs: by which seeds, and what counts as right."""
    metric = title(found.metric)
    seeds = max((len(judged.runs) for judged in flips.arms.values()), default=0)
    if flips.graded:
        step = decimal(STEP * 100, 0)
        by = (
            _("of seed %(seed)s", seed=seed)
            if seed is not None
            else ngettext("of its one seed", "averaged over its %(num)s seeds", seeds)
        )
        return _(
            "An item has a score of its own, %(metric)s %(by)s. Better and worse mean more than %(step)s points apart; "
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
        "An arm has an item right when more than half of its %(seeds)s seeds have; the untouched model likewise.",
        seeds=seeds,
    )


def mcnemar_words(p: float, seed: int) -> str:
    """The exact test of one seed's flips."""
    value = "< 0.001" if p < 0.001 else decimal(p, 3)
    return _(
        "McNemar's exact test on these flips: p = %(p)s. It is about seed %(seed)s alone and says nothing of others.",
        p=value,
        seed=seed,
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
        return _("not known")
    if band == 0:
        return _("below %(share)s", share=percent(edges[0], 0))
    if band == len(edges):
        return _("%(share)s and more", share=percent(edges[-1], 0))
    return _("%(low)s to %(high)s", low=decimal(edges[band - 1] * 100, 0), high=percent(edges[band], 0))
