"""To which of two models' texts a server's answer is nearer. Texts come without white space at their ends."""

from app.features.shipping.rules.parity import Model
from worker.text_metrics import likeness


def nearer(answer: str, run: str, base: str) -> Model:
    """To the run's text or to the base model's, if they differ: the equal one; the one with which the answer begins;
    else the one that is more like it, first within the length of the shortest of the three, then in whole. An answer
    that writes on after a text is thus not taken for the other model's, which is often longer."""
    if run == base:
        return Model.UNCLEAR
    if answer in (run, base):
        return Model.RUN if answer == run else Model.BASE
    begins_run = writes_on(answer, run) and not base.startswith(run)
    begins_base = writes_on(answer, base) and not run.startswith(base)
    if begins_run or begins_base:
        return Model.RUN if begins_run else Model.BASE
    shortest = min(len(answer), len(run), len(base))
    for end in (shortest, None):
        to_run, to_base = likeness(answer[:end], run[:end]), likeness(answer[:end], base[:end])
        if to_run != to_base:
            return Model.RUN if to_run > to_base else Model.BASE
    return Model.UNCLEAR


def writes_on(answer: str, text: str) -> bool:
    """The answer begins with a text and has more."""
    return 0 < len(text) < len(answer) and answer.startswith(text)
