"""The worker's thread of judgements, which asks judges for hours at a time."""

from worker.children.work import WorkQueue


class JudgeQueue(WorkQueue):
    """Asks judges, one judgement at a time. It starts no process."""

    name = "judge"
