"""The worker's part of inference: a thread that answers requests."""

import threading
from threading import Event

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from app.broker.exchange import Answerer
from app.broker.queue import broker_errors
from app.domain.errors import Unavailable
from app.domain.messages import _
from app.features.serving.rules import InferenceRequest, failed
from worker.features.serving.inference.host import Inference
from worker.nodes.context import process_context
from worker.nodes.node import Node

log = structlog.get_logger()

AGAIN_SECONDS = 2.0
"""Pause after an error of the broker."""


def serve(inference: Inference, exchange: Answerer, stopping: threading.Event) -> None:
    """Answer requests until the worker stops, and end the inference process."""
    try:
        while not stopping.is_set():
            try:
                inference.tidy()
                if taken := exchange.take():
                    answer(inference, exchange, *taken)
            except broker_errors() as error:
                log.warning("the broker is away; requests for inference wait", error=str(error))
                stopping.wait(AGAIN_SECONDS)
    finally:
        inference.end()
        exchange.leave()


def answer(inference: Inference, exchange: Answerer, request_id: str, body: str) -> None:
    """Answer a request, or say why not."""
    try:
        request = InferenceRequest.model_validate_json(body)
        for event in inference.answer(request, lambda: exchange.wanted(request_id)):
            exchange.send(request_id, event)
    except ValidationError:
        log.error("an unreadable request for inference", id=request_id)
        exchange.send(request_id, failed(Unavailable(_("Web and worker have different versions. Restart both."))))
    except SQLAlchemyError as error:
        log.warning("a request for inference failed", error=str(error))
        exchange.send(request_id, failed(Unavailable(_("The database does not answer. Try again later."))))
    except broker_errors():
        raise
    except Exception:  # the next request is answered
        log.exception("a request for inference failed")
        exchange.send(request_id, failed(Unavailable(_("The inference worker failed; its log says why. Try again."))))


def _answer(stopping: Event) -> None:
    context = process_context()
    process = Inference(context.settings, context.database, context.files)
    serve(process, Answerer(context.settings), stopping)


NODE = Node(inference=_answer)
