"""What a worker process works with. Made once a process: a pool child must not share its parent's connections."""

import os
import socket
import sys
from dataclasses import dataclass, field
from functools import lru_cache

from app.domain.errors import Invalid
from app.queue import Doorbell
from app.settings import Settings, load
from app.store.files import Files
from app.store.session import Database
from worker.estimation.host import Estimator
from worker.ingest.worker import Preparer
from worker.training.warm_pool import Trainers


@dataclass(frozen=True)
class Context:
    """Settings, database, files, doorbell, this worker's name, and who trains, predicts and prepares data on it."""

    settings: Settings
    database: Database
    files: Files
    bell: Doorbell
    trainers: Trainers = field(default_factory=Trainers)
    estimator: Estimator = field(default_factory=Estimator)
    preparer: Preparer = field(default_factory=Preparer)

    @property
    def worker(self) -> str:
        """The name under which this worker claims runs."""
        return self.settings.worker_name or socket.gethostname()


def context() -> Context:
    """This process's context."""
    return _of_process(os.getpid())


@lru_cache(maxsize=1)
def _of_process(_pid: int) -> Context:
    try:
        settings = load()
    except Invalid as error:
        sys.exit(error.message)  # a sentence instead of a traceback through Celery's start
    if token := settings.hub_token.get_secret_value():
        os.environ["HF_TOKEN"] = token  # huggingface_hub's own name for it, under which children inherit it
    trainers = Trainers(keep_spare=settings.warm_spare)
    return Context(settings, Database(settings.database), Files(settings.files), Doorbell(settings), trainers)
