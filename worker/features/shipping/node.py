"""The worker's part of exports, pushes and parity checks."""

from functools import partial

from app.queue import EXPORT, PARITY, PUSH
from worker.context import process_context
from worker.features.shipping import exports, parity, push
from worker.features.shipping.host import ExportQueue
from worker.features.shipping.parity_host import ParityQueue
from worker.node import Node


def _export(export_id: int) -> None:
    context = process_context()
    context.one(ExportQueue).add(partial(exports.export, context, export_id))


def _push(push_id: int) -> None:
    context = process_context()
    context.one(ExportQueue).add(partial(push.push, context, push_id))


def _check(check_id: int) -> None:
    context = process_context()
    context.one(ParityQueue).add(partial(parity.check, context, check_id))


NODE = Node(tasks={EXPORT: _export, PUSH: _push, PARITY: _check})
