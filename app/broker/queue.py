"""The doorbell: names of the tasks, and how to ring for one. The database is the queue; a ring carries only an id."""

import time
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from app.settings import Settings

TRAIN = "vezna.train"
INSPECT = "vezna.inspect"
ESTIMATE = "vezna.estimate"
READ = "vezna.read"
PREPARE = "vezna.prepare"
EXPORT = "vezna.export"
PUSH = "vezna.push"
PARITY = "vezna.parity"
JUDGE = "vezna.judge"

TRAIN_QUEUE = "train"
CONTROL_QUEUE = "control"
INFER_QUEUE = "infer"
"""No task comes by it: a node that has it, or the control queue, answers requests (`app.broker.exchange`)."""
_OF_CONTROL = (INSPECT, ESTIMATE, READ, PREPARE, EXPORT, PUSH, PARITY, JUDGE)
QUEUES = {TRAIN: TRAIN_QUEUE} | dict.fromkeys(_OF_CONTROL, CONTROL_QUEUE)

log = structlog.get_logger()


def celery_app(settings: Settings) -> Celery:
    """The Celery application, for those who ring and those who answer alike.

    The reasons are in docs/decisions/0001-database-is-the-queue.md.
    """
    app = Celery("vezna", broker=settings.broker)
    app.conf.update(
        task_acks_late=False,  # a job that runs can't be delivered again; the lease covers a lost worker
        task_reject_on_worker_lost=False,  # one kill would start the task again at once, and again
        task_ignore_result=True,  # no result backend: answers are in the database
        task_serializer="json",
        accept_content=["json"],
        task_routes={task: {"queue": queue} for task, queue in QUEUES.items()},
        task_publish_retry=False,  # a ring that fails is rung again by the sweeper
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_keepalive": True,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "health_check_interval": 25,
            "global_keyprefix": settings.broker_prefix,
            "visibility_timeout": 3600,
        },
        timezone="UTC",
    )
    return app


def broker_errors() -> tuple[type[Exception], ...]:
    """The exceptions of an unavailable broker. They are imported when needed: Celery loads the Redis client with the
    first ring, so a start does without it."""
    from redis.exceptions import RedisError  # noqa: PLC0415

    return (OperationalError, RedisError, OSError)


QUIET_SECONDS = 5.0
"""Pause after a failed ring, so that the hundred runs of a study do not each wait for the timeout."""


class Doorbell:
    """Rings for tasks. A process creates one and passes it to every caller."""

    def __init__(self, settings: Settings) -> None:
        self._app = celery_app(settings)
        # One try of at most two seconds: a request waits for the ring, and the sweeper repeats a failed one.
        self._app.conf.broker_transport_options = self._app.conf.broker_transport_options | {
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
            "max_retries": 0,
        }
        self._quiet_until = 0.0

    def ring(self, task: str, *args: Any) -> bool:
        """Ring for a task. False if the broker is away: nothing is lost, the sweeper rings again."""
        if time.monotonic() < self._quiet_until:
            return False
        try:
            self._app.send_task(task, args=args, retry=False)
        except broker_errors() as error:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            log.warning("the broker is away; the sweeper will ring again", task=task, error=str(error))
            return False
        return True

    def answers(self) -> bool:
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=3)
        except broker_errors():
            return False
        return True
