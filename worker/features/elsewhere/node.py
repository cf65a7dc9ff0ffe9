"""The worker's part of exports to a tracker: a control node exports the studies that are due."""

from threading import Event

from app.features.elsewhere.services import tracker_exports
from worker.features.elsewhere import host
from worker.nodes.context import process_context
from worker.nodes.node import Node

_left = Event()


def _export(stopping: Event) -> None:
    context = process_context()
    if context.settings.tracker:
        host.export_due(context, stopping)
    elif not _left.is_set():
        context.database.write(tracker_exports.leave_live)
        _left.set()


NODE = Node(repeated={"export to the tracker": _export})
