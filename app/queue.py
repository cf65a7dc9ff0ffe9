"""The doorbell: names of the tasks, and how to ring for one. The database is the queue; a ring carries an id alone."""

from functools import lru_cache
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app.settings import Settings

TRAIN = "vezna.train"
INSPECT = "vezna.inspect"
SWEEP = "vezna.sweep"

TRAIN_QUEUE = "train"
CONTROL_QUEUE = "control"
QUEUES = {TRAIN: TRAIN_QUEUE, INSPECT: CONTROL_QUEUE, SWEEP: CONTROL_QUEUE}

log = structlog.get_logger()


def celery_app(settings: Settings) -> Celery:
    """The Celery application, for those who ring and those who answer alike. Reasons: docs/decisions/0004-celery.md."""
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
        worker_concurrency=1,
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
        beat_schedule={
            "sweep": {
                "task": SWEEP,
                "schedule": settings.sweep_seconds,
                "options": {"expires": settings.sweep_seconds},
            }
        },
        timezone="UTC",
    )
    return app


@lru_cache(maxsize=4)
def _sender(settings_broker: str, prefix: str) -> Celery:
    app = Celery("vezna-sender", broker=settings_broker)
    app.conf.update(
        task_routes={task: {"queue": queue} for task, queue in QUEUES.items()},
        task_publish_retry=False,
        task_serializer="json",
        broker_transport_options={
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "global_keyprefix": prefix,
            "max_retries": 1,
        },
    )
    return app


def send(settings: Settings, task: str, *args: Any) -> bool:
    """Ring for a task. False if the broker is away: nothing is lost, the sweeper rings again."""
    try:
        _sender(settings.broker, settings.broker_prefix).send_task(task, args=args, retry=False)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("the broker is away; the sweeper will ring again", task=task, error=str(error))
        return False
    return True


def ping(settings: Settings) -> bool:
    """Whether the broker answers."""
    try:
        with _sender(settings.broker, settings.broker_prefix).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=3)
    except (OperationalError, RedisError, OSError):
        return False
    return True
