"""The context of the page of a study's flips."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.domain.comparison.flips import SURE, Flips
from app.domain.comparison.study import StudyComparison
from app.services.flips import Found
from app.web.format import capitalized, count
from app.web.i18n import gettext as _
from app.web.pages.flips.items import FlipCounts, FlipItems, FlipQuery, TroubleLine, trouble_lines
from app.web.shell import Option
from app.web.text.flips import band_title, kind_title, mcnemar_words, quarter_title, rule


@dataclass(frozen=True)
class FlipsPage:
    """Items of a kind, a page at a time."""

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
    """Why nothing is listed."""
    graded: bool
    total: int
    cut: str
    """That not all items are listed; empty where they are."""
    next_page: str
    """Empty on the last."""
    first: bool
    troubles: tuple[TroubleLine, ...]

    @classmethod
    def of(
        cls, study_id: int, comparison: StudyComparison, flips: Flips, query: FlipQuery, found: Found, *, first: bool
    ) -> "FlipsPage":
        """From what was found."""
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
            labels=_options(dict(enumerate(found.labels)), found.by_label, query.label, by_name=True),
            lengths=_options({n: quarter_title(n, found.edges) for n in range(4)}, found.by_quarter, query.length),
            bands=_options({n: band_title(n, SURE) for n in range(4)}, found.by_band, query.sure),
            items=FlipItems.of(query.kind.value, heading, comparison, query.arm, found.items, found.labels),
            none=_none(flips, query, found),
            graded=flips.graded,
            total=found.total,
            cut=_(
                "Texts of the first %(listed)s of %(items)s test items are at hand, and only these are listed; the "
                "counts are of all.",
                listed=count(found.listed),
                items=count(flips.items),
            )
            if 0 < found.listed < flips.items
            else "",
            next_page=query.address(found.next_after) if found.next_after is not None else "",
            first=first,
            troubles=trouble_lines(found.troubles),
        )


def _none(flips: Flips, query: FlipQuery, found: Found) -> str:
    there = flips.count(query.kind, query.arm)
    if there is None:
        return _(
            "An arm is not held against itself, and one seed does not differ from itself: choose another number above."
        )
    if not there:
        return _("Not one of the %(items)s test items.", items=count(flips.items))
    if not found.listed:
        return _("There are %(there)s, and no file with their texts can be read.", there=count(there))
    return _("Loosen the filter, or go back to the beginning.")


def _options(
    names: Mapping[int, str], counts: Mapping[int, int] | None, chosen: str, *, by_name: bool = False
) -> tuple[Option, ...]:
    """With the number of items behind each; none where items have no such thing. A label is called by its name; a
    quarter and a band from 1."""
    if counts is None:
        return ()
    words = {number: name if by_name else str(number + 1) for number, name in names.items()}
    return tuple(
        Option(words[number], f"{name} ({count(counts.get(number, 0))})", words[number] == chosen)
        for number, name in names.items()
    )
