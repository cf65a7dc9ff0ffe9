"""Flips of a study as pages show them: counts by arm and kind, and items with the answers of each model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlencode

from app.domain.comparison.flips import HALF, FlipKind, Flips
from app.domain.comparison.study import StudyArm, StudyComparison
from app.domain.tasks import METRICS, MetricName
from app.services.flip_answers import Answer, UnreadRun
from app.services.flips import FlipItem
from app.web.format import NOTHING, capitalized, count, percent
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.flips import kind_title
from app.web.text.metrics import title, written

SHOWN = 240
"""Characters of a text that are shown; the rest is behind a disclosure."""


@dataclass(frozen=True)
class FlipQuery:
    """The query string of the page of flips."""

    study_id: int
    arm: str
    kind: FlipKind
    seed: str = ""
    label: str = ""
    length: str = ""
    sure: str = ""
    q: str = ""

    def address(self, after: int | None = None, **change: str) -> str:
        """The address of the same query with changes."""
        values = vars(self) | change | {"after": "" if after is None else str(after)}
        words = {name: str(word) for name, word in values.items() if name != "study_id" and word}
        return f"/studies/{self.study_id}/flips?{urlencode(words)}"

    @property
    def sliced(self) -> bool:
        """It filters by more than an arm, a kind and a seed."""
        return bool(self.label or self.length or self.sure or self.q)

    def whole(self) -> "FlipQuery":
        """The same query without filters."""
        return replace(self, label="", length="", sure="", q="")


@dataclass(frozen=True)
class FlipCount:
    """The number of items of an arm and a kind."""

    number: str
    href: str
    """Empty where there are no items."""
    current: bool
    title: str


@dataclass(frozen=True)
class FlipCounts:
    """The counts of every arm by kind."""

    heads: tuple[str, ...]
    rows: tuple[tuple[StudyArm, tuple[FlipCount, ...]], ...]

    @classmethod
    def of(cls, comparison: StudyComparison, flips: Flips, query: FlipQuery, *, here: bool) -> "FlipCounts":
        """`here`: the page lists the items of the query's own arm and kind."""
        heads = tuple(
            capitalized(kind_title(kind, _("the arm"), flips.reference, graded=flips.graded)) for kind in FlipKind
        )
        arms = (arm for arm in comparison.arms if arm.title in flips.arms)
        return cls(heads, tuple((arm, tuple(_counts(arm.title, flips, query, here))) for arm in arms))


def _counts(arm: str, flips: Flips, query: FlipQuery, here: bool) -> Iterator[FlipCount]:
    for kind in FlipKind:
        number = flips.count(kind, arm)
        yield FlipCount(
            number=count(number),
            href=replace(query.whole(), arm=arm, kind=kind).address() if number else "",
            current=here and (arm, kind) == (query.arm, query.kind),
            title=kind_title(kind, arm, flips.reference, graded=flips.graded),
        )


@dataclass(frozen=True)
class Clamped:
    """A text whose beginning is shown."""

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
    """The answer of one model."""

    text: Clamped
    right: Literal["yes", "no", "graded"]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ItemRow:
    """A test item."""

    position: int
    item: str
    text: Clamped
    target: Clamped | None
    """Name of the true label, or the expected completion."""
    cells: tuple[AnswerCell | None, ...]


@dataclass(frozen=True)
class FlipItems:
    """A table of items: the heads of its columns, and its rows."""

    name: str
    """In ids: `worse`."""
    caption: str
    target_head: str
    """Empty where items have no target: plain texts."""
    heads: tuple[str, ...]
    rows: tuple[ItemRow, ...]

    @classmethod
    def of(
        cls, name: str, caption: str, comparison: StudyComparison, arm: str, items: Sequence[FlipItem]
    ) -> "FlipItems":
        """The reference's own items have no column for the arm."""
        reference = comparison.reference.title
        sides = {"base_model": _("Base model"), "reference": reference} | ({"arm": arm} if arm != reference else {})
        labelled = any(item.label is not None for item in items)
        target = _("True label") if labelled else _("Target") if any(i.target is not None for i in items) else ""
        rows = tuple(
            ItemRow(
                position=item.position,
                item=item.item,
                text=Clamped.of(item.text),
                target=Clamped.of(text) if (text := item.label or item.target) is not None else None,
                cells=tuple(_cell(getattr(item, side), comparison.metric) for side in sides),
            )
            for item in items
        )
        return cls(name, caption, target, tuple(sides.values()), rows)


def _cell(answer: Answer | None, metric: MetricName) -> AnswerCell | None:
    if answer is None:
        return None
    graded = METRICS[metric].graded
    right: Literal["yes", "no", "graded"] = "graded" if graded else "yes" if answer.score > HALF else "no"
    notes = []
    if answer.label is not None:
        text = Clamped(answer.label)
        if answer.probability is not None:
            notes.append(_("%(share)s confident", share=percent(answer.probability, 0)))
        if right == "no" and answer.probability_of_true_label is not None:
            notes.append(_("%(share)s for the true label", share=percent(answer.probability_of_true_label, 0)))
    elif answer.text is not None:
        text = Clamped.of(answer.text or _("(empty)"))
        notes += [_measured(name, value) for name, value in (answer.text_metrics or {}).items()]
        if notes and answer.seeds > 1:
            notes[0] = _("seed %(seed)s: %(words)s", seed=answer.text_seed, words=notes[0])
    else:
        text = Clamped(f"{title(metric)} {written(metric, answer.score)}" if graded else NOTHING)
    if answer.seeds > 1:
        notes.append(_over_seeds(answer, metric, graded))
    return AnswerCell(text, right, tuple(notes))


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


def unread_lines(unread: Sequence[UnreadRun]) -> tuple[tuple[int, str], ...]:
    """For each run whose answers could not be read, its id and the reason."""
    return tuple(
        (run.run_id, _("%(arm)s, seed %(seed)s: %(why)s", arm=run.arm, seed=run.seed, why=run.why)) for run in unread
    )
