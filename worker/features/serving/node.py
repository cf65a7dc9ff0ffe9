"""The worker's part of inference: a thread that answers requests."""

from threading import Event

from app.exchange import Answerer
from worker.context import process_context
from worker.features.serving.inference import service
from worker.features.serving.inference.host import Inference
from worker.node import Node


def _answer(stopping: Event) -> None:
    context = process_context()
    process = Inference(context.settings, context.database, context.files)
    service.serve(process, Answerer(context.settings), stopping)


NODE = Node(inference=_answer)
