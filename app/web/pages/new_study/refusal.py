"""A refusal for lack of memory, as a form shows it."""

from app.domain.errors import Invalid
from app.domain.messages import _


def at_the_box(error: Invalid) -> Invalid:
    """At the box that queues it anyway, since the panel shows the rest. Other errors stay as they are."""
    if not error.fields or any(field.path.rpartition(".")[2] != "method" for field in error.fields):
        return error
    return Invalid.field("insist", _("No live worker has enough memory"), _("Apply a memory saving, or tick the box"))
