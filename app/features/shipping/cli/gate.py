"""The outcome of a gate, as a terminal shows it."""

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.words.i18n import gettext as _
from app.words.runs.states import state_word


def gate_line(title: str, outcome: GateOutcome, difference: str, reason: str) -> str:
    """`Gate: fail (−6.0 ± 2.2 points): loses at least 3.8 points.`"""
    points = _("%(difference)s points", difference=difference)
    return f"{title}: {state_word(outcome.value)} ({points}){f': {reason}' if reason else ''}."
