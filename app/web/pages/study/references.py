"""Where the reference has no result and will have none: which arms the others can be held against instead.

A study's verdict is against the arm that was named before it began, so none of these is one: each is a link to the page
that compares any runs, which says that its reference was chosen after the fact.
"""

from dataclasses import dataclass

from app.domain.comparison.study import StudyComparison
from app.web.address import Address


@dataclass(frozen=True)
class OtherReference:
    """An arm with a result."""

    title: str
    run_id: int
    href: str


def other_references(study_id: int, found: StudyComparison) -> tuple[OtherReference, ...]:
    """Every arm with a result, where there are two of them and the reference has none."""
    arms = [arm for arm in found.others if arm.score is not None]
    if not found.reference.over or len(arms) < 2:
        return ()
    page = Address("/compare", (("study", str(study_id)),))
    margin = f"{found.spec.margin_points:g}"
    return tuple(
        OtherReference(arm.title, run_id, page.to({"reference": run_id, "margin": margin}))
        for arm in arms
        for run_id in [arm.succeeded[0].run_id]
    )
