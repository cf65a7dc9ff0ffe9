"""Other reference arms for a study whose own reference ended without a result.

A study's verdict is against its predeclared reference, so these comparisons are not its verdicts: each links to
the comparison of any runs, which states that its reference was chosen after the runs.
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
    """Every arm with a result, if there are at least two and the reference has ended without one."""
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
