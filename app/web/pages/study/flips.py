"""Flips of a study: the section of its page, and the page that lists them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlencode

from sqlalchemy.orm import Session

from app.domain.comparison.flips import AGAINST_REFERENCE, HALF, SURE, FlipKind, Flips
from app.domain.comparison.study import StudyComparison
from app.domain.tasks import METRICS, MetricName
from app.services.comparison.flips import Answer, FlipItem, FlipPage, Slice, UnreadRun, browse
from app.store.files.files import Files
from app.words.format import NOTHING, capitalized, count, percent
from app.words.i18n import gettext as _
from app.words.i18n import ngettext
from app.words.runs.metrics import title, written
from app.words.verdict.flips import band_title, kind_title, quarter_title, rule
from app.words.verdict.verdict import mcnemar_text

EXAMPLES = 3
Choice = tuple[str, str]
"""Value and title of an option."""


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

    def address(self, after: int | None = None) -> str:
        """The address of this query, from its first item or after one."""
        values = vars(self) | {"after": "" if after is None else str(after)}
        words = {name: str(word) for name, word in values.items() if name != "study_id" and word}
        return f"/studies/{self.study_id}/flips?{urlencode(words)}"

    def of(self, arm: str, kind: FlipKind) -> "FlipQuery":
        """The items of an arm and a kind, by the same seeds, without filters."""
        return FlipQuery(self.study_id, arm, kind, self.seed)

    @property
    def unfiltered(self) -> "FlipQuery":
        return self.of(self.arm, self.kind)

    def playground(self, flips: Flips, item: FlipItem | None = None) -> str:
        """The address of the playground with the models of the reference and the arm, by one seed, and with an item."""
        chosen = []
        for name in dict.fromkeys((flips.reference, self.arm)):
            judged = flips.arms.get(name)
            runs = [run for run in judged.runs if self.seed in ("", str(run.seed))] if judged else []
            chosen += [("model", str(run.run_id)) for run in runs[:1]]
        pairs = [("model", "base"), *chosen]
        if item is not None:
            pairs += [
                ("study", str(self.study_id)),
                ("arm", self.arm),
                ("kind", self.kind),
                ("item", str(item.position)),
            ]
        return f"/playground?{urlencode(pairs)}"


@dataclass(frozen=True)
class AnswerCell:
    text: str
    brief: str
    """How many seeds are right, `3/4`; empty with one seed or where answers are graded."""
    mark: str
    """`yes` where it is right, `no`, `tie` where half of the seeds are right, or `graded`."""
    notes: list[str]


@dataclass(frozen=True)
class FlipItems:
    """A table of items with the answers of the base model, the reference and an arm."""

    kind: FlipKind
    caption: str
    arm: str
    comparison: StudyComparison
    items: Sequence[FlipItem]
    query: FlipQuery
    flips: Flips

    def playground(self, item: FlipItem) -> str:
        """Where the item can be tried."""
        return self.query.of(self.arm, self.kind).playground(self.flips, item)

    @property
    def sides(self) -> dict[str, str]:
        """Whose answers are shown, as `FlipItem` names them, with titles; the reference is not compared with itself."""
        reference = self.comparison.reference.title
        sides = {"base_model": _("Base model"), "reference": reference, "arm": self.arm}
        return {side: name for side, name in sides.items() if side != "arm" or name != reference}

    @property
    def target_head(self) -> str:
        """Empty where items have no target: plain texts."""
        if any(item.label is not None for item in self.items):
            return _("True label")
        return _("Target") if any(item.target is not None for item in self.items) else ""

    def cell(self, item: FlipItem, side: str) -> AnswerCell | None:
        """An answer to an item; None where that model has none."""
        answer: Answer | None = getattr(item, side)
        return _cell(answer, self.comparison.metric) if answer else None


def _cell(answer: Answer, metric: MetricName) -> AnswerCell:
    graded = METRICS[metric].graded
    tie = answer.score == HALF and answer.seeds > 1
    mark = "graded" if graded else "tie" if tie else "yes" if answer.score > HALF else "no"
    notes = []
    if answer.label is not None:
        text = answer.label
        if answer.probability is not None:
            notes.append(_("%(share)s confident", share=percent(answer.probability, 0)))
        if mark == "no" and answer.probability_of_true_label is not None:
            notes.append(_("%(share)s for the true label", share=percent(answer.probability_of_true_label, 0)))
    elif answer.text is not None:
        text = answer.text or _("(empty)")
        notes += [_metric_text(name, value) for name, value in (answer.text_metrics or {}).items()]
        if notes and answer.seeds > 1:
            notes[0] = _("seed %(seed)s: %(words)s", seed=answer.text_seed, words=notes[0])
    else:
        text = f"{title(metric)} {written(metric, answer.score)}" if graded else NOTHING
    if answer.seeds > 1:
        notes.append(_over_seeds(answer, metric, graded))
    brief = "" if graded or answer.seeds < 2 else f"{answer.right}/{answer.seeds}"
    return AnswerCell(text, brief, mark, notes)


def _metric_text(name: MetricName, value: float) -> str:
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
class StudyFlips:
    """Where the arms differ, item by item: by the majority of seeds, with examples of the arm of the headline,
    where it loses against the reference and where it wins."""

    comparison: StudyComparison
    flips: Flips
    query: FlipQuery
    """Query of the arm and the kind that are shown first."""
    session: Session
    files: Files

    @classmethod
    def of(cls, session: Session, files: Files, study_id: int, comparison: StudyComparison) -> "StudyFlips | None":
        """None until an arm has a result. Examples are read only when a template asks for them."""
        flips = Flips.of(comparison)
        if not flips.arms:
            return None
        query = FlipQuery(study_id, *flips.default(comparison.focus))
        return cls(comparison, flips, query, session, files)

    @cached_property
    def pages(self) -> Mapping[FlipKind, FlipPage]:
        """The first items of two kinds."""
        worse = self.query.kind is FlipKind.WORSE
        return {
            kind: browse(self.session, self.files, self.flips, Slice(kind, self.query.arm), limit=EXAMPLES)
            for kind in ((FlipKind.WORSE, FlipKind.BETTER) if worse else (FlipKind.GAINED, FlipKind.LOST))
            if self.flips.count(kind, self.query.arm)
        }

    @property
    def rule(self) -> str:
        return rule(self.comparison, self.flips, None)

    @property
    def columns(self) -> tuple[FlipKind, ...]:
        """The kinds that the page counts; the page of flips has them all."""
        if len(self.flips.arms) > 1 and self.query.kind is FlipKind.WORSE:
            return AGAINST_REFERENCE
        return (FlipKind.GAINED, FlipKind.LOST)

    def share(self, kind: FlipKind, arm: str) -> float:
        """The length of half a bar: the arm's count in percent of the largest one of the first two columns."""
        largest = max((self.flips.count(k, a) or 0 for k in self.columns[:2] for a in self.flips.arms), default=0)
        return 100 * (self.flips.count(kind, arm) or 0) / max(largest, 1)

    @property
    def examples(self) -> list[FlipItems]:
        """A table for each kind that has items."""
        arm, flips = self.query.arm, self.flips
        return [
            FlipItems(
                kind, capitalized(kind_title(kind, arm, flips)), arm, self.comparison, page.items, self.query, flips
            )
            for kind, page in self.pages.items()
            if page.items
        ]

    @property
    def unread(self) -> tuple[UnreadRun, ...]:
        """Runs whose answers could not be read."""
        return next((page.unread for page in self.pages.values()), ())


@dataclass(frozen=True)
class FlipsPage:
    """The items of one kind, a page at a time."""

    comparison: StudyComparison
    flips: Flips
    query: FlipQuery
    listed: FlipPage
    first: bool
    """The page begins with the first item."""

    @property
    def heading(self) -> str:
        return capitalized(kind_title(self.query.kind, self.query.arm, self.flips))

    @property
    def rule(self) -> str:
        """How items are sorted, and what is known of the difference by one seed."""
        sorting = rule(self.comparison, self.flips, int(self.query.seed) if self.query.seed else None)
        test = self.flips.mcnemar(self.query.arm)
        return f"{sorting} {mcnemar_text(test, self.query.arm, self.flips.reference)}" if test else sorting

    @property
    def seeds(self) -> list[Choice]:
        return [(str(seed), _("seed %(seed)s", seed=seed)) for seed in self.comparison.spec.seeds]

    @property
    def labels(self) -> list[Choice]:
        return _choices({name: name for name in self.listed.labels}, self.listed.by_label)

    @property
    def lengths(self) -> list[Choice]:
        """Quarters by length, from 1."""
        return _choices({str(n + 1): quarter_title(n, self.listed.edges) for n in range(4)}, self.listed.by_quarter)

    @property
    def bands(self) -> list[Choice]:
        """Bands of the reference's confidence, from 1."""
        return _choices({str(n + 1): band_title(n, SURE) for n in range(4)}, self.listed.by_band)

    @property
    def items(self) -> FlipItems:
        query, items = self.query, self.listed.items
        return FlipItems(query.kind, self.heading, query.arm, self.comparison, items, query, self.flips)

    @property
    def try_items(self) -> str:
        """The address of the playground with the first item listed."""
        return self.items.playground(self.listed.items[0])

    @property
    def none(self) -> str:
        number = self.flips.count(self.query.kind, self.query.arm)
        if number is None:
            return _(
                "An arm is not compared with itself, and one seed does not differ from itself: choose another number "
                "above."
            )
        if not number:
            return _("None of the %(items)s test items.", items=count(self.flips.items))
        if not self.listed.listed:
            return ngettext(
                "%(number)s item is of this kind, but no file with its text can be read.",
                "%(number)s items are of this kind, but no file with their texts can be read.",
                number,
                number=count(number),
            )
        return _("Remove a filter, or go back to the first page.")


def _choices(names: Mapping[str, str], counts: Mapping[int, int] | None) -> list[Choice]:
    """Options with their numbers of items; none where items have no such value."""
    if counts is None:
        return []
    return [(word, f"{name} ({count(counts.get(place, 0))})") for place, (word, name) in enumerate(names.items())]
