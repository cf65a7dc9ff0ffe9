"""The flips section of a study's page: counts by arm, and the first items of the two most telling kinds."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.domain.comparison.flips import FlipKind, Flips
from app.domain.comparison.study import StudyComparison
from app.services.flips import Slice, browse
from app.store.files import Files
from app.web.format import capitalized
from app.web.pages.study.flip_items import FlipCounts, FlipItems, FlipQuery, unread_lines
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
    unread: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, session: Session, files: Files, study_id: int, comparison: StudyComparison) -> "StudyFlips | None":
        """By the majority of seeds; None until an arm has a result. Examples are of the arm that the verdict is about:
        where it loses against the reference, and where it wins."""
        flips = Flips.of(comparison)
        if not flips.arms:
            return None
        query = FlipQuery(study_id, *flips.default(comparison.focus))
        kinds = (FlipKind.WORSE, FlipKind.BETTER) if query.kind is FlipKind.WORSE else (FlipKind.GAINED, FlipKind.LOST)
        pages = {
            kind: browse(session, files, flips, Slice(kind, query.arm), limit=EXAMPLES)
            for kind in kinds
            if flips.count(kind, query.arm)
        }
        reference = flips.reference
        return cls(
            counts=FlipCounts.of(comparison, flips, query, here=False),
            rule=rule(comparison, flips, None),
            examples=tuple(
                FlipItems.of(
                    kind.value,
                    capitalized(kind_title(kind, query.arm, reference, graded=flips.graded)),
                    comparison,
                    query.arm,
                    page.items,
                )
                for kind, page in pages.items()
                if page.items
            ),
            more=query.address(),
            unread=unread_lines(next((page.unread for page in pages.values()), ())),
        )
