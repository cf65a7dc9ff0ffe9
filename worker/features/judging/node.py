"""The worker's part of judgements: a thread that asks judges, for hours at a time."""

from app.queue import JUDGE
from worker.claimed import by_thread
from worker.features.judging.tasks import JudgeQueue, judge
from worker.node import Node

NODE = Node(tasks={JUDGE: by_thread(JudgeQueue, judge)})
