"""The worker's part of webhooks: a control node sends the messages."""

from threading import Event

from app.features.webhooks import service
from app.services.outbound.outbound import Outbound
from app.services.runs import ended
from worker.nodes.context import process_context
from worker.nodes.node import Node


def _send(_stopping: Event) -> None:
    """Take note of the runs that have ended, and send the messages that are due."""
    context = process_context()
    ended.process(context.database, context.settings)  # what is noted later would be told a round later
    service.send_due(context.database, Outbound(context.settings), context.settings)


NODE = Node(repeated={"webhooks": _send})
