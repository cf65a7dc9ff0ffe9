"""The resources of a worker process, created once per process: a pool child must not share its parent's connections."""

import os
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import TypeVar

from app.broker.queue import Doorbell
from app.domain.errors import Invalid
from app.domain.models.hub_access import HubAccess
from app.services.ownership.vault import Vault
from app.services.users import hub_tokens
from app.services.workers.clock_jumps import ClockWatch
from app.settings import Settings, load
from app.store.database.session import Database
from app.store.files.files import Files
from worker.estimation.host import Estimator
from worker.ingest.host import IngestQueue
from worker.machine import naming
from worker.training.warm_pool import WarmPool

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """Settings, database, files, doorbell, and the child processes of this worker."""

    settings: Settings
    database: Database
    files: Files
    bell: Doorbell
    trainers: WarmPool = field(default_factory=WarmPool)
    estimator: Estimator = field(default_factory=Estimator)
    ingest: IngestQueue = field(default_factory=IngestQueue)
    of_features: dict[type, object] = field(default_factory=dict)
    """What features keep in this process; `one` is how to get it."""
    making: Lock = field(default_factory=Lock)
    clock: ClockWatch = field(default_factory=ClockWatch)

    def one(self, kind: type[T]) -> T:
        """This process's only object of a class, which the first request for it makes."""
        with self.making:
            found = self.of_features.get(kind)
            if not isinstance(found, kind):
                found = self.of_features[kind] = kind()
            return found

    @property
    def worker(self) -> str:
        """The name under which this worker claims runs."""
        return self.settings.worker_name or naming.name()

    def hub_access(self, user_id: int | None) -> HubAccess | None:
        """A user's access to the hub, for a child process; None for a user without a token. Raises Unavailable without
        the key of stored secrets."""
        if user_id is None:
            return None
        with self.database.reading() as session:
            return hub_tokens.access_of(session, Vault(self.settings), user_id)


def process_context() -> Context:
    return _of_process(os.getpid())


@lru_cache(maxsize=1)
def _of_process(_pid: int) -> Context:
    try:
        settings = load()
    except Invalid as error:
        sys.exit(error.message)  # print the error without Celery's traceback
    if token := settings.hub_token.get_secret_value():
        os.environ["HF_TOKEN"] = token  # huggingface_hub reads the token from it, and children inherit it
    trainers = WarmPool(keep_spare=settings.warm_spare)
    return Context(settings, Database(settings.database), Files(settings.files), Doorbell(settings), trainers)
