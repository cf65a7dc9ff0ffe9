"""The section of a study's page about its flips: counts by arm, and the first items of the two kinds that say most."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.domain.comparison.flips import FlipKind, Flips
from app.domain.comparison.study import StudyComparison
from app.services.flips import Slice, browse
from app.store.files import Files
from app.web.format import capitalized
from app.web.pages.flips.items import FlipCounts, FlipItems, FlipQuery, TroubleLine, trouble_lines
from app.web.text.flips import kind_title, rule

EXAMPLES = 3


@dataclass(frozen=True)
class StudyFlips:
    """Where the arms differ, item by item."""

    counts: FlipCounts
    rule: str
    examples: tuple[FlipItems, ...]
    more: str
    """The address of the page of all items."""
    troubles: tuple[TroubleLine, ...]

    @classmethod
    def of(cls, session: Session, files: Files, study_id: int, found: StudyComparison) -> "StudyFlips | None":
        """By the majority of seeds; None until an arm has a result. Examples are of the arm that the verdict is about:
        where it loses against the reference, and where it wins."""
        flips = Flips.of(found)
        if not flips.arms:
            return None
        query = usual(study_id, found, flips)
        kinds = (FlipKind.WORSE, FlipKind.BETTER) if query.kind is FlipKind.WORSE else (FlipKind.GAINED, FlipKind.LOST)
        seen = {
            kind: browse(session, files, flips, Slice(kind, query.arm), limit=EXAMPLES)
            for kind in kinds
            if flips.count(kind, query.arm)
        }
        reference = found.reference.title
        return cls(
            counts=FlipCounts.of(found, flips, query, here=False),
            rule=rule(found, flips, None),
            examples=tuple(
                FlipItems.of(
                    kind.value,
                    capitalized(kind_title(kind, query.arm, reference, graded=flips.graded)),
                    found,
                    query.arm,
                    page.items,
                    page.labels,
                )
                for kind, page in seen.items()
                if page.items
            ),
            more=query.address(),
            troubles=trouble_lines(next((page.troubles for page in seen.values()), ())),
        )


def usual(study_id: int, found: StudyComparison, flips: Flips) -> FlipQuery:
    """What one most likely wants to see: where the arm that the verdict is about loses against the reference."""
    arm = found.focus
    name = arm.title if arm and arm.title in flips.arms else next(iter(flips.arms), found.reference.title)
    kind = FlipKind.WORSE if flips.count(FlipKind.WORSE, name) is not None else FlipKind.GAINED
    return FlipQuery(study_id, name, kind)
