"""The worker's part of exports, pushes and parity checks."""

from app.queue import EXPORT, PARITY, PUSH
from worker.claimed import by_thread
from worker.features.shipping.exports import export
from worker.features.shipping.host import ExportQueue
from worker.features.shipping.parity import ParityQueue, check
from worker.features.shipping.push import push
from worker.node import Node

NODE = Node(
    tasks={
        EXPORT: by_thread(ExportQueue, export),
        PUSH: by_thread(ExportQueue, push),
        PARITY: by_thread(ParityQueue, check),
    }
)
