"""Answers of models side by side in words."""

from collections.abc import Mapping, Sequence

from app.features.serving.rules import EntitySpan
from app.words.format import capitalized, decimal
from app.words.i18n import gettext as _
from app.words.i18n import ngettext

SHOWN = 0.01
"""The least importance that is named."""
MOST_SHOWN = 4
RAISES, LOWERS = (0.02, 0.1, 0.3), (-0.02, -0.1)
"""Steps of the line under a word."""


def agreement(answers: Mapping[str, str]) -> str:
    """The finding: whether the models, by their titles, give the same label."""
    labels = list(dict.fromkeys(answers.values()))
    if len(answers) == 1:
        return _("The answer is %(label)s", label=labels[0])
    if len(labels) == 1:
        return ngettext(
            "%(num)s model answers %(label)s", "All %(num)s models answer %(label)s", len(answers), label=labels[0]
        )
    return capitalized(_("the models disagree: %(labels)s", labels=_(" or ").join(labels)))


def entity_agreement(found: Mapping[str, Sequence[EntitySpan]]) -> str:
    """The finding: whether the models, by their titles, mark the same entities."""
    marked = [{(entity.type, entity.start, entity.end) for entity in entities} for entities in found.values()]
    every, common = set.union(*marked), set.intersection(*marked)
    if not every:
        return _("No entity")
    if len(marked) == 1:
        return ngettext("%(num)s entity", "%(num)s entities", len(every))
    if apart := len(every - common):
        return ngettext("The models disagree about %(num)s entity", "The models disagree about %(num)s entities", apart)
    return ngettext("All models mark the same entity", "All models mark the same %(num)s entities", len(every))


def importance_class(fall: float | None) -> str:
    """The line under a word: `u1` to `u3` where it raises the probability, `d1` and `d2` where it lowers it."""
    if fall is None:
        return ""
    raises, lowers = sum(fall >= step for step in RAISES), sum(fall <= step for step in LOWERS)
    return f"u{raises}" if raises else f"d{lowers}" if lowers else ""


def importance_words(words: Sequence[tuple[str, float | None]]) -> str:
    """`game +0.46, Bond −0.21`: the words that matter most."""
    known = sorted(((word, fall) for word, fall in words if fall is not None and abs(fall) >= SHOWN),
                   key=lambda pair: -abs(pair[1]))  # fmt: skip
    if not known:
        return _("no word changes it by %(least)s", least=decimal(SHOWN, 2))
    named = ", ".join(f"{word} {decimal(fall, 2, signed=True)}" for word, fall in known[:MOST_SHOWN])
    return named if len(known) <= MOST_SHOWN else _("%(words)s, others less", words=named)


FILTERS = (agreement, entity_agreement, importance_class, importance_words)
