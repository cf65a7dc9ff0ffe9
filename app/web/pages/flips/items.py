"""What the flips of a study look like: counts by arm and kind, and items with everybody's answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlencode

from app.domain.comparison.flips import HALF, FlipKind, Flips
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.methods import Family
from app.domain.tasks import METRICS, MetricName
from app.services.flip_answers import Answer, Trouble
from app.services.flips import FlipItem
from app.web.format import NOTHING, capitalized, count, percent
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.flips import head, kind_title
from app.web.text.metrics import title, written

SHOWN = 240
"""Characters of a text that stand open; the rest is behind a disclosure."""


@dataclass(frozen=True)
class FlipQuery:
    """What is looked at, as its address says it."""

    study_id: int
    arm: str
    kind: FlipKind
    seed: str = ""
    label: str = ""
    length: str = ""
    sure: str = ""
    q: str = ""

    def address(self, after: int | None = None, **change: str) -> str:
        """Of the same with a change."""
        asked = vars(self) | change | {"after": "" if after is None else str(after)}
        words = {name: str(word) for name, word in asked.items() if name != "study_id" and word}
        return f"/studies/{self.study_id}/flips?{urlencode(words)}"

    @property
    def sliced(self) -> bool:
        """It asks for more than an arm, a kind and a seed."""
        return bool(self.label or self.length or self.sure or self.q)

    def whole(self) -> "FlipQuery":
        """The same without a slice."""
        return replace(self, label="", length="", sure="", q="")


@dataclass(frozen=True)
class FlipCount:
    """How many items of an arm are of a kind."""

    number: str
    href: str
    """Empty where there is none."""
    current: bool
    title: str


@dataclass(frozen=True)
class FlipRow:
    """An arm's counts."""

    title: str
    family: Family
    hollow: int
    is_reference: bool
    cells: tuple[FlipCount, ...]


@dataclass(frozen=True)
class FlipCounts:
    """The counts of every arm by kind."""

    heads: tuple[str, ...]
    """Each goes on where `Test items that` stops."""
    rows: tuple[FlipRow, ...]
    items: int

    @classmethod
    def of(cls, found: StudyComparison, flips: Flips, query: FlipQuery, *, here: bool) -> "FlipCounts":
        """`here`: the page is about the query's own arm and kind."""
        heads = tuple(head(kind, found.reference.title, graded=flips.graded) for kind in FlipKind)
        return cls(heads, tuple(_row(a, flips, query, here) for a in found.arms if a.title in flips.arms), flips.items)


def _row(arm: StudyArm, flips: Flips, query: FlipQuery, here: bool) -> FlipRow:
    cells = []
    for kind in FlipKind:
        number = flips.count(kind, arm.title)
        asked = replace(query.whole(), arm=arm.title, kind=kind)
        cells.append(
            FlipCount(
                number=count(number),
                href=asked.address() if number else "",
                current=here and (asked.arm, asked.kind) == (query.arm, query.kind),
                title=kind_title(kind, arm.title, flips.reference, graded=flips.graded),
            )
        )
    return FlipRow(arm.title, arm.family, arm.hollow, arm.is_reference, tuple(cells))


@dataclass(frozen=True)
class Clamped:
    """A text of which the beginning stands open."""

    beginning: str
    rest: str = ""

    @classmethod
    def of(cls, text: str) -> "Clamped":
        """Cut between words."""
        if len(text) <= SHOWN * 5 // 4:
            return cls(text)
        cut = text.rfind(" ", SHOWN // 2, SHOWN)
        cut = SHOWN if cut < 0 else cut
        return cls(text[:cut], text[cut:].lstrip())


@dataclass(frozen=True)
class AnswerCell:
    """What one model answered."""

    who: str
    words: Clamped
    right: Literal["yes", "no", "graded"]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ItemRow:
    """A test item."""

    position: int
    item: str
    text: Clamped
    wanted: Clamped | None
    """The true label's name, or the completion that was wanted."""
    cells: tuple[AnswerCell | None, ...]


@dataclass(frozen=True)
class FlipItems:
    """Items with everybody's answer: what the columns are called, and the rows."""

    name: str
    """In ids: `worse`."""
    caption: str
    wanted_head: str
    """Empty where nothing was wanted: plain texts."""
    heads: tuple[str, ...]
    rows: tuple[ItemRow, ...]

    @classmethod
    def of(
        cls, name: str, caption: str, found: StudyComparison, arm: str, items: Sequence[FlipItem], labels: Sequence[str]
    ) -> "FlipItems":
        """From items of an arm; the reference's own have no column for the arm."""
        reference = found.reference.title
        whose = [(_("untouched"), "base"), (reference, "reference")] + ([(arm, "arm")] if arm != reference else [])
        wanted = _("True label") if labels else _("Wanted") if any(i.wanted is not None for i in items) else ""
        rows = tuple(
            ItemRow(
                position=item.position,
                item=item.item,
                text=Clamped.of(item.text),
                wanted=_wanted(item, labels),
                cells=tuple(_cell(who, getattr(item, side), found.metric, labels) for who, side in whose),
            )
            for item in items
        )
        return cls(name, caption, wanted, (capitalized(whose[0][0]), *(who for who, _side in whose[1:])), rows)


def _wanted(item: FlipItem, labels: Sequence[str]) -> Clamped | None:
    if item.label is not None:
        return Clamped(_name(item.label, labels))
    return Clamped.of(item.wanted) if item.wanted is not None else None


def _name(label: int, labels: Sequence[str]) -> str:
    return labels[label] if 0 <= label < len(labels) else str(label)


def _cell(who: str, answer: Answer | None, metric: MetricName, labels: Sequence[str]) -> AnswerCell | None:
    if answer is None:
        return None
    graded = METRICS[metric].graded
    right: Literal["yes", "no", "graded"] = "graded" if graded else "yes" if answer.score > HALF else "no"
    notes = []
    if answer.label is not None:
        words = Clamped(_name(answer.label, labels))
        if answer.sure is not None:
            notes.append(_("%(share)s sure", share=percent(answer.sure, 0)))
        if right == "no" and answer.of_label is not None:
            notes.append(_("%(share)s for the true label", share=percent(answer.of_label, 0)))
    elif answer.text is not None:
        words = Clamped.of(answer.text or _("(nothing)"))
        notes += [_measured(name, value) for name, value in (answer.text_metrics or {}).items()]
        if notes and answer.seeds > 1:
            notes[0] = _("seed %(seed)s: %(words)s", seed=answer.text_seed, words=notes[0])
    else:
        words = Clamped(f"{title(metric)} {written(metric, answer.score)}" if graded else NOTHING)
    if answer.seeds > 1:
        notes.append(_over_seeds(answer, metric, graded))
    return AnswerCell(who, words, right, tuple(notes))


def _measured(name: MetricName, value: float) -> str:
    """`ROUGE-L 43.2 %`, `exact match: no`."""
    if METRICS[name].graded:
        return f"{title(name)} {written(name, value)}"
    return f"{title(name)}: {_('yes') if value > HALF else _('no')}"


def _over_seeds(answer: Answer, metric: MetricName, graded: bool) -> str:
    if graded:
        score = written(metric, answer.score)
        return ngettext(
            "mean of %(num)s seed: %(score)s", "mean of %(num)s seeds: %(score)s", answer.seeds, score=score
        )
    return _("%(right)s of %(seeds)s seeds right", right=answer.right, seeds=answer.seeds)


@dataclass(frozen=True)
class TroubleLine:
    """A run whose answers are missing."""

    run_id: int
    words: str


def trouble_lines(troubles: Sequence[Trouble]) -> tuple[TroubleLine, ...]:
    """A sentence for each."""
    return tuple(
        TroubleLine(t.run_id, _("%(arm)s, seed %(seed)s: %(why)s.", arm=t.arm, seed=t.seed, why=_(t.why)))
        for t in troubles
    )
