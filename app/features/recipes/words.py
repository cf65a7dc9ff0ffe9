"""Recipes in words: outcomes, what was observed, how the runs differ from the source, what is published."""

from app.domain.models.base_model import ModelFacts
from app.domain.tasks import TASKS
from app.features.recipes.rules.checks import Finding
from app.features.recipes.rules.drift import (
    Drift,
    PublishedHistory,
    difference_half_width,
    drifts,
    newest,
    score_half_width,
)
from app.features.recipes.rules.recipes import Outcome
from app.features.recipes.service import RecipeCard, published
from app.words.format import NBSP, count, decimal, duration, points, points_between, short_count, significant
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext

OUTCOMES = {
    Outcome.REPRODUCED: marked("reproduced"),
    Outcome.NOT_REPRODUCED: marked("not reproduced"),
    Outcome.UNDECIDED: marked("undecided"),
}
LILY, RSLORA = "lily rank140-mlp-a2-b2-s8.0", "lora rank64-rslora"
"""The configurations of the published difference."""
POINT = 0.01


def outcome_label(card: RecipeCard) -> str:
    """`reproduced`; while runs remain, how many have ended."""
    if card.outcome is None:
        return _("%(done)s of %(total)s runs have ended", done=card.done, total=card.total)
    return _(OUTCOMES[card.outcome])


def observed(finding: Finding) -> str:
    """A check's statistic with its interval: `−0.9 ± 1.7 points`, `14× (5.6 to 32)`; a reason where there is none."""
    found = finding.estimate
    if found is None:
        return finding.why or ""
    match finding.check.statistic.kind:
        case "contrast":
            interval = points_between(found.value * POINT, found.low * POINT, found.high * POINT)
            text = _("%(difference)s points", difference=interval)
        case "forgetting":
            text = _(
                "%(value)s nats per token (%(low)s to %(high)s)",
                value=decimal(found.value, 3, signed=True),
                low=decimal(found.low, 3, signed=True),
                high=decimal(found.high, 3, signed=True),
            )
        case "rate_ratio":
            text = _(
                "%(value)s× (%(low)s to %(high)s)",
                value=significant(found.value, 2),
                low=significant(found.low, 2),
                high=significant(found.high, 2),
            )
        case "seed_noise":
            text = _(
                "%(value)s points (%(low)s to %(high)s)",
                value=decimal(found.value),
                low=decimal(found.low),
                high=decimal(found.high),
            )
    return f"{text}; {finding.why}" if finding.why else text


def check_state(card: RecipeCard, finding: Finding) -> str:
    """Whether a check is confirmed, refuted or neither."""
    if finding.interval is None or card.outcome is None:
        return _("open")
    if finding.check.confirmed.holds(*finding.interval):
        return _("confirmed")
    return _("refuted") if finding.check.refuted.holds(*finding.interval) else _("undecided")


def ran_on(card: RecipeCard) -> str:
    """`all-MiniLM-L6-v2 on BBC headlines, 4 seeds, 8 runs`; once all have ended, how many of them have a result."""
    spec = card.study.spec
    seeds = ngettext("%(num)s seed", "%(num)s seeds", len(spec.seeds))
    runs = ngettext("%(num)s run", "%(num)s runs", card.total)
    if card.outcome is not None:
        if card.seeds < len(spec.seeds):
            seeds = _("%(num)s of %(all)s seeds complete", num=card.seeds, all=len(spec.seeds))
        if card.succeeded < card.total:
            runs = _("%(num)s of %(all)s runs succeeded", num=card.succeeded, all=card.total)
    return _(
        "%(model)s on %(data)s, %(seeds)s, %(runs)s", model=spec.base_model, data=card.data, seeds=seeds, runs=runs
    )


def differs(card: RecipeCard, facts: ModelFacts | None) -> str:
    """The size of the model and the task, where the source's are others."""
    size = _("%(count)s parameters", count=short_count(facts.parameters)) if facts else ""
    task = _(TASKS[card.recipe.study.task].title)
    here = ", ".join(part for part in (size, task) if part)
    return _("%(here)s, instead of: %(there)s", here=here, there=_(card.recipe.source.setting))


def used(card: RecipeCard) -> str:
    """Runs and device time, trials included."""
    runs = ngettext("%(num)s run", "%(num)s runs", card.total)
    return _("%(runs)s, %(time)s of device time", runs=runs, time=duration(card.device_seconds))


def published_text(name: str) -> list[str]:
    """Published results that a recipe refers to: drift and what remains, each with the versions; nothing without."""
    if not name:
        return []
    history = published(name)
    return [*(_drift(drift) for drift in drifts(history)), _items(history)]


def _drift(drift: Drift) -> str:
    values = {
        "before": _versions(drift.before),
        "after": _versions(drift.after),
        "num": len(drift.changes),
        "mean": points(drift.mean * POINT),
        "spread": decimal(drift.spread),
        "fell": drift.fell,
    }
    if drift.before == drift.after:
        return _(
            "Same versions (%(before)s), trained again: mean change %(mean)s points, residual spread %(spread)s, over "
            "%(num)s configurations.",
            **values,
        )
    return _(
        "From %(before)s to %(after)s: common drift %(mean)s points, residual spread %(spread)s; %(fell)s of %(num)s "
        "configurations fell.",
        **values,
    )


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name}{NBSP}{versions[name].split('+')[0]}" for name in ("transformers", "torch", "peft"))


def _items(history: PublishedHistory) -> str:
    lily, rslora = newest(history, [LILY, RSLORA])
    return _(
        "Items alone (%(items)s of them): ± %(one)s points for one score, ± %(two)s for a difference of two if their "
        "items were independent; scores by item are not published. Every result has one seed, so none of this is seed "
        "noise.",
        items=count(history.items),
        one=decimal(score_half_width(lily.right, history.items)),
        two=decimal(difference_half_width(lily.right, rslora.right, history.items)),
    )


FILTERS = (outcome_label, observed, check_state, ran_on, used, published_text)
