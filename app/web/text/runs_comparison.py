"""Any runs held against each other, in words: who is judged how, what is in the way, and what that takes away."""

from collections import Counter

from app.domain.comparison.confounders import UNKNOWN, Obstacle, What
from app.domain.comparison.intervals import CONFIDENCE, Difference
from app.domain.comparison.runs import Against, Compared, ComparedArm, McNemar
from app.domain.comparison.verdict import VerdictKind
from app.web.format import capitalized, confidence, count, join_names, points, significant
from app.web.i18n import gettext as _
from app.web.i18n import marked, ngettext
from app.web.text.confidence import BONFERRONI, HOLM, over_all, plus_minus_is
from app.web.text.failures import failure_label
from app.web.text.metrics import title
from app.web.text.verdict import VERDICT_LABELS, difference_interval

MOST_NAMED = 4
"""A sentence names at most so many arms, then says how many more there are."""
MOST_VALUES = 6

DIFFERS = {
    What.TEST_ITEMS: marked("They were not tested on the same items"),
    What.METRIC: marked("The metric differs"),
    What.METRIC_VERSION: marked("The metric's definition differs by version"),
    What.NO_ITEMS: marked("Of some it is not known on which items they were tested"),
    What.TASK: marked("The task differs"),
    What.BASE_MODEL: marked("The base model differs"),
    What.DATASET: marked("The dataset differs"),
    What.DATASET_VERSION: marked("The dataset's version differs"),
    What.DEVICE: marked("The device differs"),
    What.PRECISION: marked("The precision differs"),
    What.MEMORY_MEASURE: marked("Memory was not measured in the same way"),
    What.OVERLAP: marked("Runs stood side by side on one worker"),
    What.LIBRARIES: marked("Library versions differ"),
    What.BUDGET: marked("The budget differs"),
    What.IMPORTED: marked("Some were measured elsewhere"),
    What.REFERENCE: marked("The study named another reference before its runs"),
    What.UNTUNED: marked("Learning rates were not tuned, as far as is known"),
    What.ONE_SEED: marked("Some have one seed"),
}
CONSEQUENCES = {
    What.TEST_ITEMS: marked("there is no verdict between arms that answered different items"),
    What.METRIC: marked("there is no verdict between scores of different metrics"),
    What.METRIC_VERSION: marked("there is no verdict between scores by different definitions"),
    What.NO_ITEMS: marked("there is no verdict on them"),
    What.TASK: marked("a difference is one of tasks, not only of methods"),
    What.BASE_MODEL: marked("a difference may come from the base model, not from the method"),
    What.DATASET: marked("a difference may come from the data, not from the method"),
    What.DATASET_VERSION: marked("a difference may come from the data, not from the method"),
    What.DEVICE: marked("there is no winner in memory or in time"),
    What.PRECISION: marked("there is no winner in memory or in time"),
    What.MEMORY_MEASURE: marked("there is no winner in memory"),
    What.OVERLAP: marked("there is no winner in time"),
    What.LIBRARIES: marked("small differences in memory and time may come from them"),
    What.BUDGET: marked("a difference may come from longer training, not from the method"),
    What.IMPORTED: marked("Vezna has checked nothing of them"),
    What.REFERENCE: marked("this one was chosen after them, and no interval is corrected for that choice"),
    What.UNTUNED: marked("another rate could move any of them"),
    What.ONE_SEED: marked("what another seed would change is unknown, so a difference is a hint at best"),
}


OF_ALL = {
    What.NO_ITEMS: marked("It is not known on which items they were tested"),
    What.IMPORTED: marked("All were measured elsewhere"),
    What.ONE_SEED: marked("All have one seed"),
}
"""What is said of some, where it is so of every arm."""


def differs(obstacle: Obstacle, arms: int) -> str:
    """What is in the way of so many arms: `The device differs`, `All have one seed`."""
    of_all = OF_ALL.get(obstacle.what) if len(obstacle.arms) == arms else None
    return _(of_all or DIFFERS[obstacle.what])


def consequence(obstacle: Obstacle) -> str:
    """What it takes away: `there is no winner in memory or in time`."""
    return _(CONSEQUENCES[obstacle.what])


def told(obstacle: Obstacle, arms: int) -> str:
    """Whom it is about: `x86: full and LoRA r=8; NVIDIA L4: DoRA`. Nothing where it is all of them."""
    if list(obstacle.values) == [""]:
        return "" if len(obstacle.arms) == arms else some(obstacle.arms)
    values = list(obstacle.values.items())
    said = [f"{_('not known') if value == UNKNOWN else value}: {some(names)}" for value, names in values[:MOST_VALUES]]
    if (left := len(values) - MOST_VALUES) > 0:
        said.append(ngettext("%(num)s more value", "%(num)s more values", left))
    return "; ".join(said)


def remark(obstacle: Obstacle, arms: int) -> str:
    """All of it in one sentence."""
    whom = told(obstacle, arms)
    whole = _("%(differs)s: %(consequence)s", differs=differs(obstacle, arms), consequence=consequence(obstacle))
    return f"{whole} ({whom})." if whom else f"{whole}."


def some(names: tuple[str, ...]) -> str:
    """`full, LoRA and 3 more`."""
    if len(names) <= MOST_NAMED + 1:
        return join_names(names)
    more = ngettext("%(num)s more", "%(num)s more", len(names) - MOST_NAMED)
    return join_names([*names[:MOST_NAMED], more])


def delta(against: Against | None) -> str:
    """`+0.3 ± 1.2`, or `+0.7, from −3.1 to +4.5` where the interval is not even; empty without one."""
    seen = against.difference if against else None
    if seen is None:
        return ""
    if isinstance(seen, Difference):
        return difference_interval(seen)
    return _(
        "%(delta)s, from %(low)s to %(high)s", delta=points(seen.delta), low=points(seen.low), high=points(seen.high)
    )


def verdict_word(against: Against | None) -> str:
    """`undecided`, `a hint of worse`, `no verdict`."""
    if against is None:
        return ""
    if against.kind is VerdictKind.HINT and against.hint is not None:
        return _("a hint: %(word)s", word=_(VERDICT_LABELS[against.hint]))
    return _(VERDICT_LABELS[against.kind])


def why_none(against: Against | None) -> str:
    """Why there is no verdict: `they were not tested on the same items`; empty where there is one."""
    if against is None or against.kind is not VerdictKind.NONE:
        return ""
    if against.why is None:
        return _("no result yet, or none at all")
    text = _(DIFFERS[against.why])
    return text[:1].lower() + text[1:]


def failed(arm: ComparedArm) -> str:
    """Why an arm has no score: `out of memory`; empty where it has one, or none of its runs failed."""
    failure = next((run.failure for run in arm.runs if run.failure), None)
    return failure_label(failure) if failure and arm.score is None else ""


def headline(found: Compared) -> str:
    """What the comparison comes to, no more than it says."""
    others = [arm for arm in found.arms if not arm.is_reference]
    if not others:
        return _("%(arm)s alone: nothing to hold it against", arm=found.reference.title)
    if len(others) == 1:
        return _of_two(found, others[0])
    counted = Counter(arm.against.kind for arm in others if arm.against)
    said = [
        _("%(n)s %(word)s", n=counted[kind], word=_(COUNTED[kind]) if counted[kind] == 1 else _(SEVERAL[kind]))
        for kind in COUNTED
        if counted[kind]
    ]
    return _(
        "%(n)s arms against %(reference)s: %(said)s",
        n=len(others),
        reference=found.reference.title,
        said=join_names(said),
    )


COUNTED = {
    VerdictKind.BETTER: marked("better"),
    VerdictKind.WITHIN: marked("within the margin"),
    VerdictKind.WORSE: marked("worse"),
    VerdictKind.UNDECIDED: marked("undecided"),
    VerdictKind.HINT: marked("hint"),
    VerdictKind.NONE: marked("without a verdict"),
}
SEVERAL = COUNTED | {VerdictKind.HINT: marked("hints")}


def _of_two(found: Compared, arm: ComparedArm) -> str:
    names = {"arm": capitalized(arm.title), "reference": found.reference.title, "by": delta(arm.against)}
    against = arm.against
    match against.kind if against else VerdictKind.NONE:
        case VerdictKind.BETTER:
            return _("%(arm)s is better than %(reference)s: %(by)s points", **names)
        case VerdictKind.WORSE:
            return _("%(arm)s is worse than %(reference)s: %(by)s points", **names)
        case VerdictKind.WITHIN:
            return _("%(arm)s is within the margin of %(reference)s: %(by)s points", **names)
        case VerdictKind.UNDECIDED:
            return _("%(arm)s against %(reference)s is undecided: %(by)s points", **names)
        case VerdictKind.HINT if against and against.basis == "shares":
            word = _(VERDICT_LABELS[against.hint]) if against.hint else ""
            return _("%(arm)s against %(reference)s, a hint only: %(word)s, %(by)s points", word=word, **names)
        case VerdictKind.HINT:
            word = _(VERDICT_LABELS[against.hint]) if against and against.hint else ""
            return _("%(arm)s against %(reference)s, for one seed only: %(word)s, %(by)s points", word=word, **names)
        case _:
            names["arm"] = arm.title
            return _("No verdict between %(arm)s and %(reference)s: %(why)s", why=why_none(against), **names)


def lead(found: Compared) -> str:
    """How it was judged: item by item, or from shares; over what."""
    judged = [arm.against for arm in found.arms if arm.against and arm.against.difference]
    parts = []
    metric = title(found.metric)
    if any(a.basis == "items" for a in judged):
        items = next(a.difference.items for a in judged if a.basis == "items" and a.difference)
        text = _(
            "%(metric)s, item by item over %(items)s shared test items.", metric=capitalized(metric), items=count(items)
        )
        parts.append(text)
    if any(a.basis == "shares" for a in judged):
        items = next(a.difference.items for a in judged if a.basis == "shares" and a.difference)
        parts.append(
            _(
                "%(metric)s of %(items)s shared test items without their scores: the interval takes the items of two "
                "results as independent (Newcombe 1998), which makes it wide. It covers the items only, for the seeds "
                "that there are: nothing is ranked.",
                metric=capitalized(metric),
                items=count(items),
            )
        )
    if len(judged) > 1:
        parts.append(_("The intervals hold at %(level)s.", level=over_all(*_corrected(found))))
    if judged and found.confidence > CONFIDENCE:
        parts.append(
            _(
                "Verdicts are held to %(held)s instead of %(usual)s: seeds were added after results had been seen.",
                held=confidence(found.confidence),
                usual=confidence(CONFIDENCE),
            )
        )
    return " ".join(parts)


def interval(found: Compared) -> str:
    """What ± is in the table."""
    return plus_minus_is(*_corrected(found))


def _corrected(found: Compared) -> tuple[float, list[float], str]:
    """The confidence of all differences together and of each, and what corrected them: Holm's order is of those that
    are judged item by item."""
    judged = [arm.against for arm in found.arms if arm.against]
    used = {"items": HOLM, "shares": BONFERRONI}
    by = [name for basis, name in used.items() if any(a.difference and a.basis == basis for a in judged)]
    return found.confidence, [a.difference.confidence for a in judged if a.difference], join_names(by)


def mcnemar_words(found: McNemar, arm: str, reference: str) -> str:
    """The test beside the interval, in a sentence."""
    p = significant(found.p_value, 2) if found.p_value >= 0.001 else _("below %(least)s", least=significant(0.001, 1))
    return _(
        "McNemar's exact test: %(first)s items only %(arm)s gets right, %(second)s only %(reference)s; p = %(p)s. It "
        "says nothing of other seeds.",
        first=count(found.only_first),
        arm=arm,
        second=count(found.only_reference),
        reference=reference,
        p=p,
    )
