"""Words for the queue: whose turn it is, and why."""

from app.domain.runs.listing.queue import Priority
from app.services.workers.queue_view import QueueEntry, QueueView, Turn
from app.words.format import count
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext

PRIORITIES: dict[Priority, str] = {
    Priority.HIGH: marked("high priority"),
    Priority.NORMAL: marked("normal priority"),
    Priority.LOW: marked("low priority"),
}
TURNS: dict[Turn, str] = {
    Turn.FIRST: marked("next"),
    Turn.SHARE: marked("next"),
    Turn.RAISED: marked("next"),
    Turn.LOW: marked("when no other run waits"),
    Turn.LIMIT: marked("when a run of its owner ends"),
    Turn.PAUSED: marked("paused"),
    Turn.LATER: marked("waits for its turn"),
}


def priority_name(priority: Priority) -> str:
    """A priority in the language of the page."""
    return _(PRIORITIES[priority])


def turn_words(entry: QueueEntry) -> str:
    return _(TURNS[entry.turn])


def queue_counts(view: QueueView) -> str:
    """`12 queued runs, 3 paused`."""
    waiting = ngettext("%(num)s queued run", "%(num)s queued runs", view.waiting)
    return _("%(waiting)s, %(paused)s paused", waiting=waiting, paused=count(view.paused)) if view.paused else waiting


def next_in_queue(view: QueueView) -> str:
    """Whose turn it is, and why; empty if every run is paused or waits for its owner's others."""
    entry = view.entries[0] if view.entries else None
    if entry is None or entry.turn in (Turn.PAUSED, Turn.LIMIT):
        return ""
    name = _("a run of another user") if entry.run is None else _("run %(id)s", id=entry.run.id)
    match entry.turn:
        case Turn.SHARE:
            return _("Next: %(run)s, since its owner used the least device time of the last 7 days.", run=name)
        case Turn.RAISED:
            return _("Next: %(run)s, since its priority is high.", run=name)
        case _:
            return _("Next: %(run)s, the first in the queue.", run=name)


FILTERS = (priority_name, turn_words, queue_counts, next_in_queue)
