"""A study's answer in one sentence for a mail or a slide: the verdict, its interval, and what it takes.

LoRA r=8 is within 1 point of full fine-tuning: −0.2 ± 0.7; it needs 37 % of the memory, 52 % of the train time and a
file 300 times smaller.
"""

from app.domain.comparison.study import StudyComparison
from app.domain.comparison.verdict import VerdictKind
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.text.failures import failure_label
from app.web.text.headline import headline
from app.web.text.lead import ways_to_decide
from app.web.text.savings import needs
from app.web.text.verdict import difference_text

NAMES_ITS_DISTANCE = (VerdictKind.BETTER, VerdictKind.WORSE)
"""Headlines of these say how far apart the two are."""


def plain(found: StudyComparison) -> str:
    """One sentence; more where it is undecided, and one for runs that failed."""
    arm = found.focus
    text = headline(found)
    if arm is not None:
        if arm.verdict_kind not in NAMES_ITS_DISTANCE:
            text = _("%(verdict)s: %(difference)s", verdict=text, difference=difference_text(arm))
        if what := needs(found, arm):
            text = _("%(verdict)s; it needs %(what)s", verdict=text, what=what)
    parts = [f"{text}.", ways_to_decide(found, arm) if arm else ""]
    lost = sum(times for _failure, times in found.failures)
    if lost and any(run.result for run in found.runs):
        reasons = ", ".join(dict.fromkeys(failure_label(failure) for failure, _times in found.failures))
        parts.append(ngettext("%(num)s run failed: %(why)s.", "%(num)s runs failed: %(why)s.", lost, why=reasons))
    return " ".join(part for part in parts if part)
