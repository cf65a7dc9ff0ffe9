"""A worker with one GPU, which is the CPU, without Celery: `python -m tests.hosts.worker leads|joins`.

It finds what it would be rung for in the database, so it needs no broker. The settings are those of its environment.
"""

import sys
import time
from dataclasses import replace
from threading import Event

from sqlalchemy import select

from app import logs
from app.store.runs import hosts as run_hosts
from app.store.tables import RunHostRow
from app.store.workers import queue
from worker import tasks
from worker.context import Context, process_context
from worker.machine.device import Card, Device
from worker.training.warm_pool import WarmPool

TRAINER = (sys.executable, "-P", "-m", "tests.hosts.trainer")
GIB = 2**30


def main(leads: bool) -> None:
    context = process_context()
    logs.configure(context.settings)
    uuid = f"GPU-{context.worker}"
    context = replace(context, trainers=WarmPool(TRAINER, keep_spare=False))
    context.trainers.use({uuid: uuid}, 0)
    tasks.process_context = lambda: context
    card = Card(uuid=uuid, name="NVIDIA L4", memory_bytes=24 * GIB, bf16=False)
    tasks.sign_on(context, Device("cuda", card.name, card.memory_bytes, 1, bf16=False, cards=(card,)), Event())
    while True:
        tasks.beat(context)
        for run_id in _waiting(context, leads):
            (tasks.train if leads else tasks.join)(run_id)
        time.sleep(0.2)


def _waiting(context: Context, leads: bool) -> list[int]:
    with context.database.reading() as session:
        if leads:
            head = queue.head(session, None)
            return [head.run_id] if head else []
        open_parts = select(RunHostRow.run_id).where(run_hosts.OPEN, RunHostRow.worker == context.worker)
        return list(session.scalars(open_parts))


if __name__ == "__main__":
    main(sys.argv[1] == "leads")
