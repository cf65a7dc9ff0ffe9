"""The resources of a worker process, created once per process: a pool child must not share its parent's connections."""

import os
import sys
from dataclasses import dataclass, field
from functools import lru_cache

from app.domain.errors import Invalid
from app.domain.models.hub_access import HubAccess
from app.queue import Doorbell
from app.services.accounts import hub_tokens
from app.services.clock_jumps import ClockWatch
from app.services.vault import Vault
from app.settings import Settings, load
from app.store.files import Files
from app.store.session import Database
from worker import naming
from worker.estimation.host import Estimator
from worker.exports.host import ExportQueue
from worker.ingest.host import IngestQueue
from worker.parity.host import ParityQueue
from worker.trackers.process import ExportProcess
from worker.training.warm_pool import WarmPool


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
    exporter: ExportQueue = field(default_factory=ExportQueue)
    parity: ParityQueue = field(default_factory=ParityQueue)
    judge: ParityQueue = field(default_factory=ParityQueue)
    """For hours at a time; parity checks do not wait for it."""
    tracker: ExportProcess = field(default_factory=ExportProcess)
    clock: ClockWatch = field(default_factory=ClockWatch)

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
    """The context of this process."""
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
