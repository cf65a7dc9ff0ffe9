"""The page of a study's flips."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.comparison.flips import SURE, Flips
from app.domain.comparison.study import StudyComparison
from app.services.flips import FlipPage
from app.web.format import capitalized, count
from app.web.i18n import gettext as _
from app.web.pages.study.flip_items import FlipCounts, FlipItems, FlipQuery, unread_lines
from app.web.shell import Option
from app.web.text.flips import band_title, kind_title, mcnemar_words, quarter_title, rule


@dataclass(frozen=True)
class FlipsPage:
    """The items of one kind, a page at a time."""

    study_id: int
    study: str
    query: FlipQuery
    heading: str
    rule: str
    mcnemar: str
    counts: FlipCounts
    seeds: tuple[Option, ...]
    labels: tuple[Option, ...]
    lengths: tuple[Option, ...]
    bands: tuple[Option, ...]
    items: FlipItems
    none: str
    """Why no item is listed."""
    graded: bool
    total: int
    cut: str
    """Says that not all items are listed; empty where they are."""
    next_page: str
    """Empty on the last."""
    first: bool
    unread: tuple[tuple[int, str], ...]

    @classmethod
    def of(
        cls,
        study_id: int,
        comparison: StudyComparison,
        flips: Flips,
        query: FlipQuery,
        listed: FlipPage,
        *,
        first: bool,
    ) -> "FlipsPage":
        seed = int(query.seed) if query.seed else None
        heading = capitalized(kind_title(query.kind, query.arm, flips.reference, graded=flips.graded))
        p = flips.mcnemar(query.arm)
        return cls(
            study_id=study_id,
            study=comparison.spec.name,
            query=query,
            heading=heading,
            rule=rule(comparison, flips, seed),
            mcnemar=mcnemar_words(p, flips.arms[query.arm].runs[0].seed) if p is not None else "",
            counts=FlipCounts.of(comparison, flips, query, here=True),
            seeds=tuple(
                Option(str(n), _("seed %(seed)s", seed=n), str(n) == query.seed) for n in comparison.spec.seeds
            ),
            labels=_options(dict(enumerate(listed.labels)), listed.by_label, query.label, by_name=True),
            lengths=_options({n: quarter_title(n, listed.edges) for n in range(4)}, listed.by_quarter, query.length),
            bands=_options({n: band_title(n, SURE) for n in range(4)}, listed.by_band, query.sure),
            items=FlipItems.of(query.kind.value, heading, comparison, query.arm, listed.items),
            none=_none(flips, query, listed),
            graded=flips.graded,
            total=listed.total,
            cut=_(
                "Only the first %(listed)s of %(items)s test items are listed, as no file with the other texts can "
                "be read; the counts cover all items.",
                listed=count(listed.listed),
                items=count(flips.items),
            )
            if 0 < listed.listed < flips.items
            else "",
            next_page=query.address(listed.next_after) if listed.next_after is not None else "",
            first=first,
            unread=unread_lines(listed.unread),
        )


def _none(flips: Flips, query: FlipQuery, listed: FlipPage) -> str:
    there = flips.count(query.kind, query.arm)
    if there is None:
        return _(
            "An arm is not compared with itself, and one seed does not differ from itself: choose another number above."
        )
    if not there:
        return _("None of the %(items)s test items.", items=count(flips.items))
    if not listed.listed:
        return _("There are %(there)s, but no file with their texts can be read.", there=count(there))
    return _("Remove a filter, or go back to the first page.")


def _options(
    names: Mapping[int, str], counts: Mapping[int, int] | None, chosen: str, *, by_name: bool = False
) -> tuple[Option, ...]:
    """Options with their numbers of items; none where items have no such value. The value is a label's name, or the
    number of a quarter or band from 1."""
    if counts is None:
        return ()
    words = {number: name if by_name else str(number + 1) for number, name in names.items()}
    return tuple(
        Option(words[number], f"{name} ({count(counts.get(number, 0))})", words[number] == chosen)
        for number, name in names.items()
    )
