"""The worker's part of judgements: a thread that asks judges, for hours at a time."""

from functools import partial

from app.queue import JUDGE
from worker.context import process_context
from worker.features.judging import tasks
from worker.features.judging.queue import JudgeQueue
from worker.node import Node


def _judge(judgement_id: int) -> None:
    context = process_context()
    context.one(JudgeQueue).add(partial(tasks.judge, context, judgement_id))


NODE = Node(tasks={JUDGE: _judge})
