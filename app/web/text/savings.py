"""What an arm needs beside the reference: shares of its memory and time, and how much smaller what one keeps is."""

from app.domain.comparison.study import StudyArm, StudyComparison
from app.web.format import join_names
from app.web.i18n import gettext as _
from app.web.text.verdict import both_costs, memory_share, time_share, times_smaller


def needs(found: StudyComparison, arm: StudyArm) -> str:
    """`37 % of the memory, 52 % of the train time and a file 300 times smaller`: as far as the two compare, and the
    file only where it is at least twice as small. Empty if nothing does."""
    memory, time, costs = memory_share(found, arm), time_share(found, arm), both_costs(found, arm)
    smaller = times_smaller(costs[0].artifact_bytes, costs[1].artifact_bytes) if costs else None
    parts = [
        _("%(share)s of the memory", share=memory) if memory else "",
        _("%(share)s of the train time", share=time) if time else "",
        _("a file %(times)s times smaller", times=smaller) if smaller else "",
    ]
    return join_names([part for part in parts if part])
